import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import densenet as tv_densenet
from torchvision.models import resnet18 as tv_resnet18

from core import InputError
from core.models import MODELS, create_model
from core.models.densenet import use_less_memory
from core.models.winograd import conv3x3, pays


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts_are_exact(name: str) -> None:
    count = sum(p.numel() for p in create_model(name).parameters())
    assert count == MODELS[name].parameters


@pytest.mark.parametrize("size", [32, 24, 64])
@pytest.mark.parametrize("name", MODELS)
def test_every_network_takes_other_sizes(name: str, size: int) -> None:
    model = create_model(name, num_classes=7).eval()
    images = torch.rand(2, 3, size, size)
    assert model(images).shape == (2, 7)
    features = model.forward_features(images)
    assert features.ndim == 4
    torch.testing.assert_close(model.forward_head(features), model(images))


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and BatchNorm statistics, which must have the same shapes in the same order."""
    for kind in (nn.Module.parameters, nn.Module.buffers):
        ours, theirs = list(kind(target)), list(kind(source))
        assert [t.shape for t in ours] == [t.shape for t in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            mine.data.copy_(other.data)


def assert_same_function(ours: nn.Module, theirs: nn.Module) -> None:
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    copy_in_order(theirs, ours)
    images = torch.randn(4, 3, 32, 32)
    for train in (True, False):
        ours.train(train), theirs.train(train)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def torchvision_resnet18() -> nn.Module:
    model = tv_resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def test_resnet18_equals_torchvision() -> None:
    torch.manual_seed(0)
    assert_same_function(create_model("resnet18"), torchvision_resnet18())


def test_densenet_equals_torchvision() -> None:
    torch.manual_seed(0)
    theirs = tv_densenet.DenseNet(
        growth_rate=12, block_config=(6, 12, 24, 16), num_init_features=24, num_classes=10
    )
    theirs.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        delattr(theirs.features, name)
    assert_same_function(create_model("densenet121_k12"), theirs)


@pytest.mark.parametrize("name", ["densenet121_k12", "densenet121_k32"])
def test_memory_efficient_densenet_is_the_same_function(name: str) -> None:
    """Outputs, gradients and running statistics equal the plain form's, in float64 to 1e-5 and less."""
    torch.manual_seed(0)
    plain = create_model(name).double()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    lean = copy.deepcopy(plain)
    use_less_memory(lean)
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    outputs = []
    for model in (plain, lean):
        out = model(images)
        out.square().sum().backward()
        outputs.append(out)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    for mine, other in zip(lean.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-5)
    for mine, other in zip(lean.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_plain18_is_resnet18_without_additions() -> None:
    torch.manual_seed(0)
    theirs = torchvision_resnet18()
    for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        for block in stage:
            block.downsample = None

            def forward(x: torch.Tensor, block: nn.Module = block) -> torch.Tensor:
                out = block.relu(block.bn1(block.conv1(x)))
                return block.relu(block.bn2(block.conv2(out)))

            block.forward = forward
    assert_same_function(create_model("plain18"), theirs)


@pytest.mark.parametrize("num_classes", [0, 1, 1001])
def test_impossible_class_counts_are_refused(num_classes: int) -> None:
    with pytest.raises(InputError, match="classes"):
        create_model("simple_cnn", num_classes)


def test_an_unknown_network_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match="resnet18"):
        create_model("resnet1")


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 4), (3, 5), (6, 9), (1, 2)])
def test_winograd_is_the_same_convolution(height: int, width: int) -> None:
    torch.manual_seed(0)
    ours = [torch.randn(s, dtype=torch.float64) for s in ((2, 5, height, width), (7, 5, 3, 3))]
    theirs = [t.clone() for t in ours]
    for tensor in ours + theirs:
        tensor.requires_grad_()
    out, direct = conv3x3(*ours), F.conv2d(*theirs, padding=1)
    torch.testing.assert_close(out, direct)
    grad = torch.randn_like(direct)
    out.backward(grad)
    direct.backward(grad)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_winograd_is_taken_only_where_it_pays() -> None:
    filters = torch.empty(128, 128, 3, 3)
    assert pays(torch.empty(128, 128, 16, 16), filters)
    assert not pays(torch.empty(128, 128, 16, 16, device="meta"), filters)
    assert not pays(torch.empty(128, 128, 16, 16, dtype=torch.bfloat16), filters)
    assert not pays(torch.empty(128, 64, 16, 16), torch.empty(128, 64, 3, 3))
    assert not pays(torch.empty(128, 64, 32, 32), torch.empty(64, 64, 3, 3))
    assert pays(torch.empty(256, 64, 32, 32), torch.empty(64, 64, 3, 3))
    assert not pays(torch.empty(256, 32, 32, 32), torch.empty(64, 32, 3, 3))
    assert not pays(torch.empty(1, 128, 16, 16), filters)
    assert not pays(torch.empty(128, 128, 2, 2), filters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not pays(torch.empty(128, 128, 16, 16), filters)


def test_resnet_learns_the_same_with_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, where rounding can't turn a ReLU."""
    torch.manual_seed(0)
    model = create_model("resnet18").double().train()
    direct = copy.deepcopy(model)
    images, labels = torch.randn(8, 3, 16, 16, dtype=torch.float64), torch.randint(0, 10, (8,))
    F.cross_entropy(direct(images), labels).backward()
    asked: list[int] = []
    monkeypatch.setattr("core.models.winograd.pays", lambda x, weight: asked.append(x.shape[1]) or True)
    F.cross_entropy(model(images), labels).backward()
    assert asked == [3] + [64] * 4 + [128] * 3 + [256] * 3 + [512] * 3
    for mine, other in zip(model.parameters(), direct.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
