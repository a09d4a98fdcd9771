"""Why a network says what it says."""

import io
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from core.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    NoveltyScale,
    load_checkpoint,
    save_checkpoint,
)
from core.data.batches import normalise
from core.data.pictures import WHOLE, Frame, cut
from core.evaluation import distances, familiarity, fit_novelty, make_bank
from core.evaluation.novelty import nearness
from core.inference import Distortion, classifier, classify, classify_views, grad_cam, overlay, view
from core.inference.batch import classify_many
from core.models import MODELS, create_model

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def make_checkpoint(name: str) -> Checkpoint:
    torch.manual_seed(0)
    model = create_model(name).eval().requires_grad_(False)
    info = CheckpointInfo(model=name, classes=list("abcdefghij"), image_size=32, mean=MEAN, std=STD)
    return Checkpoint(model, info)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["resnet18", "densenet121_k12"])
def test_with_a_pooled_linear_head_grad_cam_is_cam(name: str, pixels: torch.Tensor) -> None:
    """The maps weighted by the class's row of the last layer (Zhou et al. 2016)."""
    checkpoint = make_checkpoint(name)
    logits, heat = grad_cam(checkpoint, pixels, [3, None])
    images = normalise(pixels[None], torch.tensor(MEAN), torch.tensor(STD))
    with torch.no_grad():
        features = checkpoint.model.forward_features(images)
        expected_logits = checkpoint.model.forward_head(features)[0]
    assert torch.allclose(logits, expected_logits, atol=1e-5)
    for row, target in zip(heat, (3, int(expected_logits.argmax())), strict=True):
        cam = F.relu(torch.einsum("c,chw->hw", checkpoint.model.fc.weight[target], features[0]))
        assert torch.allclose(row, cam / cam.max(), atol=1e-4)


@pytest.mark.parametrize("name", list(MODELS))
def test_heat_maps_of_every_network_lie_between_0_and_1(name: str, pixels: torch.Tensor) -> None:
    checkpoint = make_checkpoint(name)
    _, heat = grad_cam(checkpoint, pixels, [0, 1, 2])
    assert heat.shape[0] == 3
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert all(parameter.grad is None for parameter in checkpoint.model.parameters())


def test_the_overlay_is_bright_where_the_heat_is() -> None:
    image = Image.new("RGB", (90, 60), (120, 120, 120))
    heat = torch.zeros(4, 4)
    heat[0, 3] = 1
    drawn = overlay(image, heat)
    assert drawn.size == image.size
    assert sum(drawn.getpixel((88, 2))) > 2 * sum(drawn.getpixel((2, 58)))


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8))


def test_a_frame_cuts_out_what_it_covers() -> None:
    image = gradient(300, 100)
    assert cut(image, WHOLE).size == (300, 100)
    assert cut(image, Frame(side=0.5)).size == (150, 100)
    left, right = (cut(image, Frame(x, 0.5, 1 / 3)) for x in (0.0, 1.0))
    assert left.getpixel((0, 50))[0] == 0
    assert right.getpixel((99, 50))[0] == 255
    small = cut(image, Frame(1.0, 1.0, 1 / 30))
    assert small.size == (10, 10)
    assert small.getpixel((9, 9))[:2] == (255, 255)
    assert cut(image, Frame(-3, 7, 99)).size == (300, 100)  # nonsense stays inside


@pytest.mark.parametrize(
    "harm", [{"noise": 30}, {"blur": 2}, {"brightness": 1.8}, {"quality": 5}, {"rotation": 40}]
)
def test_each_harm_changes_what_is_seen_and_none_changes_nothing(harm: dict[str, float]) -> None:
    image = gradient(120, 90)
    whole = view(image, 32)
    assert torch.equal(view(image, 32, harm=Distortion()), whole)
    harmed = view(image, 32, harm=Distortion(**harm))
    assert harmed.shape == whole.shape
    assert (harmed.float() - whole.float()).abs().mean() > 0.3
    assert torch.equal(harmed, view(image, 32, harm=Distortion(**harm)))  # the same each time


def test_a_turn_by_90_degrees_is_exact() -> None:
    image = gradient(256, 256)
    turned = view(image, 32, harm=Distortion(rotation=90)).float()
    assert (turned - view(image, 32).rot90(1, (1, 2)).float()).abs().max() <= 2


def test_nearness_is_minus_the_distance_to_the_twentieth() -> None:
    bank = F.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    asked = torch.randn(7, 8, generator=torch.Generator().manual_seed(1))
    expected = [-sorted(float((F.normalize(a, dim=0) - b).norm()) for b in bank)[19] for a in asked]
    assert nearness(distances(asked, bank)).tolist() == pytest.approx(expected, abs=1e-4)
    assert nearness(distances(asked * 9, make_bank(bank * 3))).tolist() == pytest.approx(expected, abs=2e-3)


def test_95_of_100_held_out_images_pass_and_strange_ones_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(4, 16)
    labels = torch.arange(400) % 4
    features = centres[labels] + 0.05 * torch.randn(400, 16, generator=generator)
    logits = 9 * features[:, :4]
    bank = make_bank(features[:200])
    scale, threshold = fit_novelty(logits[200:], features[200:], bank)
    scores = familiarity(logits[200:], distances(features[200:], bank), scale)
    assert (scores >= threshold).double().mean().item() == pytest.approx(0.95, abs=0.006)
    assert scores.mean().item() == pytest.approx(0, abs=1e-6)
    strange = 0.3 * torch.randn(50, 16, generator=generator)
    assert (familiarity(9 * strange[:, :4], distances(strange, bank), scale) < threshold).all()
    assert fit_novelty(logits[:5], features[:5], bank) is None


def test_the_bank_is_kept_in_the_checkpoint_and_decides(tmp_path: Path, pixels: torch.Tensor) -> None:
    checkpoint = make_checkpoint("simple_cnn")
    model = checkpoint.model
    images = normalise(pixels[None], torch.tensor(MEAN), torch.tensor(STD))
    known = model.forward_head(model.forward_features(images), pre_logits=True).repeat(30, 1)
    scale = NoveltyScale(energy_mean=0, energy_std=1000, nearness_mean=0, nearness_std=1)
    info = checkpoint.info.model_copy(update={"none_threshold": -0.2, "novelty": scale})
    for bank, verdict_is_none in ((known, False), (-known, True)):
        save_checkpoint(tmp_path / "x.safetensors", model.state_dict(), info, make_bank(bank))
        loaded = load_checkpoint(tmp_path / "x.safetensors")
        (said,) = classify_views(loaded, pixels[None])
        assert (said.verdict == "none") == verdict_is_none
    without = replace(loaded, bank=None)
    assert classify_views(without, pixels[None])[0].predictions == said.predictions


@pytest.mark.parametrize(
    ("best", "verdict"), [(0.95, "sure"), (0.81, "sure"), (0.79, "unsure"), (0.3, "unsure")]
)
def test_sure_means_a_calibrated_probability_of_four_in_five(
    best: float, verdict: str, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint("simple_cnn")
    temperature = 1.7
    checkpoint = replace(checkpoint, info=checkpoint.info.model_copy(update={"temperature": temperature}))
    shares = torch.full((len(checkpoint.info.classes),), (1 - best) / (len(checkpoint.info.classes) - 1))
    shares[3] = best
    said = torch.cat([shares.log() * temperature, torch.zeros(4)])[None]
    monkeypatch.setattr(classifier, "predict", lambda *args, **more: said)
    (answer,) = classify_views(checkpoint, pixels[None], mirror=False)
    assert answer.predictions[0][1] == pytest.approx(best, abs=1e-4)
    assert answer.verdict == verdict


def test_many_pictures_get_the_answers_each_gets_alone() -> None:
    checkpoints = [make_checkpoint("simple_cnn"), make_checkpoint("resnet18")]
    generator = np.random.default_rng(0)
    files: list[tuple[str, bytes]] = []
    for number in range(70):  # more than a batch
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), np.uint8)).save(file, "PNG")
        files.append((f"{number}.png", file.getvalue()))
    files.insert(3, ("broken.png", b"no picture"))
    found = list(classify_many(checkpoints, [(name, lambda data=data: data) for name, data in files]))
    assert [each.file for each in found] == [name for name, _ in files]
    assert "not a picture" in found[3].error
    assert found[3].answers == []
    for each, (_, data) in list(zip(found, files, strict=True))[60:66]:
        image = Image.open(io.BytesIO(data))
        for checkpoint, said in zip(checkpoints, each.answers, strict=True):
            (alone,) = classify_views(checkpoint, view(image, 32)[None], mirror=False)
            assert dict(said.predictions) == pytest.approx(dict(alone.predictions), abs=1e-5)


def test_one_picture_is_averaged_with_its_mirror_image(pixels: torch.Tensor) -> None:
    checkpoint = make_checkpoint("resnet18")
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    said, other = (dict(classify(checkpoint, each).predictions) for each in (image, mirrored))
    assert said == pytest.approx(other, abs=1e-5)
    alone = dict(classify_views(checkpoint, pixels[None], mirror=False)[0].predictions)
    assert said != pytest.approx(alone, abs=1e-6)


@pytest.mark.timing
def test_ten_thousand_pictures_need_no_more_memory_than_a_thousand() -> None:
    out = io.BytesIO()
    Image.effect_noise((200, 150), 60).convert("RGB").save(out, "JPEG")
    checkpoint, peaks = make_checkpoint("simple_cnn"), []
    for count in (1_000, 10_000):
        pictures = ((f"{i}.jpg", out.getvalue) for i in range(count))
        assert sum(1 for _ in classify_many([checkpoint], pictures)) == count
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"{peaks[1] - peaks[0]:.1f} MB more")
    assert peaks[1] - peaks[0] < 20
