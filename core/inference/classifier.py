"""From a picture to class probabilities and a verdict."""

from typing import Literal

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import BaseModel
from torch import Tensor

from core.checkpoint import Checkpoint
from core.data.pictures import WHOLE, Frame, cut, to_pixels
from core.evaluation import distances, energy, familiarity, logits_and_features, most_similar, predict
from core.inference.distort import Distortion, distort

SURE = 0.8  # calibrated probability of the best class from which on it is called sure

Verdict = Literal["sure", "unsure", "none"]


class Answer(BaseModel):
    """What a network says about one picture.

    Attributes:
        predictions: (class, probability), best first; all classes, adding up to 1.
        verdict: sure, unsure, or none of the classes.
        in_distribution_score: higher is more like the training images (`core.evaluation.familiarity`; the
            energy of Liu et al. 2020 for a checkpoint without a bank of features).
        similar: indices of the most similar training images, of those the checkpoint keeps features of.
    """

    predictions: list[tuple[str, float]]
    verdict: Verdict
    in_distribution_score: float
    similar: list[int] = []


def view(image: Image.Image, size: int, frame: Frame = WHOLE, harm: Distortion | None = None) -> Tensor:
    """What a network sees of an RGB picture: (3, size, size) uint8."""
    part = cut(image, frame)
    if harm is not None and not harm.changes_nothing:
        part = distort(part, size, harm)
    return to_pixels(part, size)


def classify(checkpoint: Checkpoint, image: Image.Image) -> Answer:
    """Classify an RGB picture, all of it; see `classify_views`."""
    return classify_views(checkpoint, view(image, checkpoint.info.image_size)[None])[0]


def classify_views(checkpoint: Checkpoint, views: Tensor, mirror: bool = True) -> list[Answer]:
    """Classify what the network is to see: (N, 3, size, size) uint8.

    Probabilities are calibrated with the checkpoint's temperature.

    Args:
        mirror: average the logits with those of the mirror images; twice the work.
    """
    info = checkpoint.info
    said = predict(
        checkpoint.model,
        torch.cat([views, views.flip(3)]) if mirror else views,
        info.mean,
        info.std,
        size=info.image_size,
        device=next(checkpoint.model.parameters()).device,
        answer=logits_and_features,
    )
    logits, features = said[:, : len(info.classes)].double(), said[: len(views), len(info.classes) :]
    logits = logits.unflatten(0, (-1, len(views))).mean(dim=0)
    probabilities = F.softmax(logits / info.temperature, dim=1)
    plain = said[: len(views), : len(info.classes)]
    scores, similar = energy(plain), [[] for _ in views]
    if checkpoint.bank is not None and info.novelty is not None:
        away = distances(features, checkpoint.bank)
        scores = familiarity(plain, away, info.novelty)
        if checkpoint.bank_images is not None:
            similar = checkpoint.bank_images[most_similar(away).cpu()].tolist()
    return [_answer(checkpoint, *each) for each in zip(probabilities, scores.tolist(), similar, strict=True)]


def _answer(checkpoint: Checkpoint, probabilities: Tensor, score: float, similar: list[int]) -> Answer:
    info = checkpoint.info
    order = probabilities.argsort(descending=True).tolist()
    verdict: Verdict = "sure" if probabilities[order[0]] >= SURE else "unsure"
    if info.none_threshold is not None and score < info.none_threshold:
        verdict = "none"
    return Answer(
        predictions=[(info.classes[i], probabilities[i].item()) for i in order],
        verdict=verdict,
        in_distribution_score=score,
        similar=similar,
    )
