"""The networks, by name.

Every network is an `nn.Module` that maps images (N, 3, H, W) to logits (N, num_classes) and has
two halves: `forward_features` gives the last feature map (N, C, h, w), `forward_head` the logits, or
with `pre_logits=True` what its last layer reads (N, D).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from core import InputError
from core.models.densenet import densenet121
from core.models.resnet import plain18, resnet18
from core.models.simple_cnn import SimpleCNN

MAX_CLASSES = 1000


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the registry.

    Attributes:
        title: the name a person reads.
        build: from a number of classes to the network.
        parameters: how many it has with 10 classes.
        min_size: smallest height and width of an image it takes, in pixels.
    """

    title: str
    build: Callable[[int], nn.Module]
    parameters: int
    min_size: int


MODELS: dict[str, ModelSpec] = {
    "simple_cnn": ModelSpec("Simple CNN", SimpleCNN, 62_006, 16),
    "plain18": ModelSpec("Plain-18", plain18, 11_000_138, 8),
    "resnet18": ModelSpec("ResNet-18", resnet18, 11_173_962, 8),
    "densenet121_k12": ModelSpec("DenseNet-121 (k=12)", lambda n: densenet121(n, 12), 1_000_618, 8),
    "densenet121_k32": ModelSpec("DenseNet-121 (k=32)", lambda n: densenet121(n, 32), 6_956_298, 8),
}


def model_spec(name: str) -> ModelSpec:
    """Look `name` up in the registry.

    Raises:
        InputError: there is no such network.
    """
    if name not in MODELS:
        raise InputError(f"There is no network '{name}'. Choose one of: {', '.join(MODELS)}.")
    return MODELS[name]


def create_model(name: str, num_classes: int = 10) -> nn.Module:
    """Build the network `name` with fresh weights, drawn from torch's global random generator.

    Raises:
        InputError: unknown name, or a number of classes outside 2 to 1000.
    """
    spec = model_spec(name)
    if not 2 <= num_classes <= MAX_CLASSES:
        raise InputError(f"A network needs 2 to {MAX_CLASSES} classes, not {num_classes}.")
    return spec.build(num_classes)
