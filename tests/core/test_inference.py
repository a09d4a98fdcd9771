"""Why a network says what it says."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from core.checkpoint import Checkpoint, CheckpointInfo
from core.data.batches import normalise
from core.inference import grad_cam, overlay
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
