"""From a picture to class probabilities and a verdict."""

from typing import Literal

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import BaseModel

from core.checkpoint import Checkpoint
from core.data.pictures import to_pixels
from core.evaluation import familiarity, look_at

SURE = 0.6  # calibrated probability of the best class from which on it is called sure

Verdict = Literal["sure", "unsure", "none"]


class Answer(BaseModel):
    """What a network says about one picture.

    Attributes:
        predictions: (class, probability), best first; all classes, adding up to 1.
        verdict: sure, unsure, or none of the classes.
        in_distribution_score: higher is more like the training images (`core.evaluation.familiarity`; the
            energy of Liu et al. 2020 for a checkpoint without a bank of features).
    """

    predictions: list[tuple[str, float]]
    verdict: Verdict
    in_distribution_score: float


def classify(checkpoint: Checkpoint, image: Image.Image) -> Answer:
    """Classify an RGB picture: the mean of what the network says to its centre square and its mirror.

    Probabilities are calibrated with the checkpoint's temperature.
    """
    info = checkpoint.info
    pixels = to_pixels(image, info.image_size)[None]
    device = next(checkpoint.model.parameters()).device
    answers, features = look_at(
        checkpoint.model, pixels, info.mean, info.std, len(info.classes), size=info.image_size, device=device
    )
    logits = answers[0].double()
    probabilities = F.softmax(logits / info.temperature, dim=0)
    order = probabilities.argsort(descending=True).tolist()
    if checkpoint.bank is not None:
        score = familiarity(features, checkpoint.bank)[0].item()
    else:  # no training images to compare with
        score = torch.logsumexp(logits, dim=0).item()
    best = probabilities[order[0]].item()
    verdict: Verdict = "sure" if best >= SURE else "unsure"
    if info.none_threshold is not None and score < info.none_threshold:
        verdict = "none"
    return Answer(
        predictions=[(info.classes[i], probabilities[i].item()) for i in order],
        verdict=verdict,
        in_distribution_score=score,
    )
