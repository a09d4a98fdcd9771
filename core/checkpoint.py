"""One self-describing weights file: a safetensors file whose header says all that is needed to use it."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core import InputError
from core.device import place
from core.files import save_tensors
from core.models import MAX_CLASSES, MODELS, create_model

FORMAT_VERSION = 2  # 2 may hold a bank of features
MAX_HEADER_BYTES = 4 * 2**20
MODEL_FILE = "model.safetensors"  # of a run; its folder's name tells it apart
BANK, BANK_IMAGES = "novelty.bank", "novelty.images"
KEY = "cifar_lab"  # of the header's metadata, whose values can only be strings


class NoveltyScale(BaseModel):
    """Mean and standard deviation of the two signs of `core.evaluation.novelty` on held-out images."""

    energy_mean: float
    energy_std: float = Field(gt=0)
    nearness_mean: float
    nearness_std: float = Field(gt=0)


class Origin(BaseModel):
    """The network a training began with, in place of random weights.

    Attributes:
        file: the name of its file, or of its run.
        epochs, seconds: what had gone into it, its own origin included.
    """

    file: str
    data: str
    epochs: float
    seconds: float


class CheckpointInfo(BaseModel):
    """What a checkpoint says of itself.

    Attributes:
        image_size: height and width the network is used at, in pixels.
        mean, std: of each channel, in 0..1.
        recipe: the fields of `core.training.recipe.Recipe` it was trained with.
        data, data_title: the source it was trained on; what to call it, if that says more.
        epochs: passes over the training images that were made, those of the origin not counted.
        hold_out: how many training images were kept for fitting; chosen by `seed`.
        metrics: figures on the test images, as in the report.
        temperature: divides the logits wherever a probability is shown.
        none_threshold: below this in-distribution score a picture is none of the classes.
        novelty: what that score is measured in.
        origin: what the training began with; None: random weights.
    """

    model_config = ConfigDict(extra="ignore")

    format_version: int = FORMAT_VERSION
    model: str
    classes: list[str] = Field(min_length=2, max_length=MAX_CLASSES)
    image_size: int = Field(ge=8, le=256)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    recipe: dict[str, Any] = {}
    preset: str = ""
    seed: int = 0
    epochs: float = 0
    data: str = ""
    data_title: str = ""
    data_fingerprint: str = ""
    hold_out: int = 0
    metrics: dict[str, Any] = {}
    temperature: float = Field(1.0, gt=0)
    none_threshold: float | None = None
    novelty: NoveltyScale | None = None
    origin: Origin | None = None
    hardware: str = ""
    seconds: float = 0


@dataclass(frozen=True)
class Checkpoint:
    """A network, ready to use, and what its file says of it.

    Attributes:
        bank: features (K, D) of training images, for telling what is none of the classes; or None.
        bank_images: which images these are (K,), as indices into the training images of the data.
    """

    model: nn.Module
    info: CheckpointInfo
    bank: Tensor | None = None
    bank_images: Tensor | None = None


def save_checkpoint(
    path: Path,
    weights: dict[str, Tensor],
    info: CheckpointInfo,
    bank: Tensor | None = None,
    bank_images: Tensor | None = None,
) -> None:
    """Write the weights of a network, `info` and a bank of features to one file, atomically.

    Raises:
        OSError: the disk is full or not writable; the file is as it was before.
    """
    parts = weights if bank is None else weights | {BANK: bank.half()}
    if bank_images is not None:
        parts = parts | {BANK_IMAGES: bank_images.int()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in parts.items()}
    header = {KEY: info.model_dump_json(), "format": "pt"}
    save_tensors(path, tensors, header)


def read_info(path: Path) -> CheckpointInfo:
    """Read only what a checkpoint says of itself.

    Raises:
        InputError: no such file, or not a checkpoint of this program.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        raise InputError(f"'{path}' is broken: it is not a complete safetensors file.") from None
    try:
        content = json.loads(metadata[KEY])
        version = content.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise InputError(f"'{path}' was made by a newer version of this program.")
        info = CheckpointInfo.model_validate(content)
    except (KeyError, AttributeError, json.JSONDecodeError, ValidationError):
        raise InputError(f"'{path}' is not a checkpoint of this program.") from None
    if info.model not in MODELS:
        raise InputError(f"'{path}' holds a network this program doesn't know: '{info.model[:40]}'.")
    return info


def load_checkpoint(path: Path, device: torch.device | None = None) -> Checkpoint:
    """Build the network a file describes, with its weights, in evaluation mode.

    Raises:
        InputError: no such file, not a checkpoint, truncated, or weights of another network.
    """
    info = read_info(path)
    model = create_model(info.model, len(info.classes))
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        bank, bank_images = weights.pop(BANK, None), weights.pop(BANK_IMAGES, None)
        expected = model.state_dict()
        for name in expected:
            if name.endswith("num_batches_tracked"):  # counts steps; nothing reads it afterwards
                weights[name] = expected[name]
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError):
        raise InputError(f"The weights in '{path}' don't fit the network '{info.model}'.") from None
    model.requires_grad_(False)
    if bank_images is not None:
        bank_images = bank_images.long()
    return Checkpoint(place(model, device or torch.device("cpu")).eval(), info, bank, bank_images)


def _check_header(path: Path) -> None:
    """Refuse what isn't a safetensors file before any library reads it."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise InputError(f"The checkpoint '{path}' can't be read ({error.strerror}).") from None
    if start[8:9] != b"{":  # eight bytes of length, then the header's JSON
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise InputError(
                f"'{path}' is a pickle (a .pt or .pth file), which can run code; it is not opened. "
                "Only safetensors files are."
            )
        raise InputError(f"'{path}' is not a safetensors file.")
    if struct.unpack("<Q", start[:8])[0] > MAX_HEADER_BYTES:
        raise InputError(f"'{path}' has a header of more than {MAX_HEADER_BYTES // 2**20} MB.")
