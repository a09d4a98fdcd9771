"""Recipes as data: how a network is trained, and the presets.

Sources: [zoo] KellerJordan/cifar10-zoo, train_resnet18; [bag] D. Page, "How to train your ResNet";
[air] K. Jordan, airbench; [fast] WeihaoZhuang/cifar10-100-fast-training; [kuang] kuangliu/pytorch-cifar;
[muon] K. Jordan et al., Muon;
[here] measured by this project, see checkpoints/README.md.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core import InputError
from core.data.batches import Augmentation
from core.models import model_spec
from core.training.schedule import cosine, one_cycle

PRESETS = ("quick", "fast", "accurate", "classic")
MAX_SEED = 2**31 - 1

# ((share of all steps from which on, image size in pixels), ...)
SizeSchedule = tuple[tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[int, Field(ge=8, le=256)]], ...]


class Recipe(BaseModel):
    """All that decides what a network learns, apart from the data and the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(10, ge=1, le=10_000)  # passes over the training images
    batch_size: int = Field(128, ge=2, le=65_536)  # images a step, over all processes
    # sgd; or muon for the filters of convolutions that a BatchNorm follows, and sgd for the rest [muon]
    optimizer: Literal["sgd", "muon"] = "sgd"
    # Learning rate at its highest, for SGD with a loss averaged over the batch.
    peak_lr: float = Field(0.1, gt=0, le=100)
    # Muon's at its highest: how much of a filter bank's norm a step changes [air]
    filter_lr: float = Field(0.1, gt=0, le=1)
    # one_cycle: straight up to the peak, then straight down to 0 [zoo]; cosine: from the peak [kuang]
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    rise: float = Field(0.2, ge=0, lt=1)  # share of all steps before the peak, one_cycle only [zoo]
    momentum: float = Field(0.9, ge=0, lt=1)  # Nesterov [zoo] [kuang]
    weight_decay: float = Field(5e-4, ge=0, le=1)  # on weights, not on biases and BatchNorm [zoo]
    label_smoothing: float = Field(0.1, ge=0, lt=1)  # probability given to all classes alike [bag]
    flip: Literal["random", "alternating", "none"] = "alternating"  # [air]
    translate: int = Field(2, ge=0, le=16)  # pixels each way of a 32 px image, edges reflected [air]
    cutout: int = Field(0, ge=0, le=32)  # side of the grey square, pixels of a 32 px image [zoo]
    # (share of all steps from which on, image size in pixels): progressive resizing (composer, FFCV)
    sizes: SizeSchedule = ((0.0, 32),)
    bn_momentum: float = Field(0.1, gt=0, le=1)  # PyTorch's default; higher follows faster [air]
    # Window of the running average of the weights, in epochs; 0 keeps the last weights [bag]
    ema_epochs: float = Field(0.0, ge=0, le=1000)
    hold_out: int = Field(1000, ge=0, le=100_000)  # training images kept for fitting; at most a tenth
    train_images: int | None = Field(None, ge=2)  # so many of the others, class-balanced; None: all
    epoch_test_images: int | None = Field(None, ge=1)  # so many are tested after an epoch; None: all
    tta: bool = True  # report the mean over image and mirror image as well [bag]

    @model_validator(mode="after")
    def _sizes_go_on(self) -> "Recipe":
        starts = [start for start, _ in self.sizes]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("sizes must start at 0 and go on in order")
        return self

    @property
    def image_size(self) -> int:
        """The size at the end of training, in pixels: what the network is used at."""
        return self.sizes[-1][1]

    def size_at(self, step: int, steps_total: int) -> int:
        """Image size in pixels at `step` of `steps_total`."""
        return [size for start, size in self.sizes if step >= round(start * steps_total)][-1]

    def lr_at(self, step: int, steps_total: int) -> float:
        """Learning rate of `step`, counted from 0."""
        if self.schedule == "cosine":
            return cosine(step, steps_total, self.peak_lr)
        return one_cycle(step, steps_total, self.peak_lr, self.rise)

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(flip=self.flip, translate=self.translate, cutout=self.cutout)


class TrainConfig(BaseModel):
    """One training, complete: the same config on the same device gives the same weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    data: str  # cifar10, synthetic, or the path of a folder or a zip
    preset: Literal["quick", "fast", "accurate", "classic"] = "fast"
    recipe: Recipe
    seed: int = Field(0, ge=0, le=MAX_SEED)
    start_from: str | None = None  # path of a checkpoint to begin with; None: random weights
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"  # torch.compile; auto: where it is paid back
    memory_efficient: bool = False  # DenseNet: less memory, more time
    sync_batch_norm: bool = False  # BatchNorm statistics over all processes; CUDA only
    save_every: float = Field(300, ge=1, le=86_400)  # seconds between two resume states

    @model_validator(mode="after")
    def _model_exists(self) -> "TrainConfig":
        model_spec(self.model)
        return self


SMALL_SOURCES = ("synthetic",)


def preset_recipe(preset: str, model: str, data: str = "cifar10") -> Recipe:
    """The recipe `preset` for `model` on `data`.

    Raises:
        InputError: no such preset or network.
    """
    model_spec(model)
    if preset not in PRESETS:
        raise InputError(f"There is no preset '{preset}'. Choose one of: {', '.join(PRESETS)}.")
    if preset == "accurate":
        return Recipe(epochs=80, batch_size=500, peak_lr=0.2, translate=4, cutout=12, ema_epochs=2)
    if preset == "classic":
        return Recipe(epochs=200, schedule="cosine", label_smoothing=0, flip="random", translate=4)
    few = data in SMALL_SOURCES  # smaller batches: an epoch has to have enough steps to learn from
    if model == "simple_cnn":
        # Smoothing and small images cost this network accuracy [here].
        epochs = {"quick": 8, "fast": 20}[preset]
        return Recipe(
            epochs=30 if few else epochs,
            batch_size=64,
            peak_lr=0.05 if few else 0.03,
            label_smoothing=0,
            translate=1,
        )
    if preset == "quick":
        return Recipe(
            epochs=5,
            batch_size=32,
            peak_lr=0.02,
            sizes=((0.0, 16),),
            train_images=2000,
            epoch_test_images=500,
        )
    sizes = ((0.0, 16), (0.35, 24), (0.75, 32))
    if few:
        return Recipe(
            epochs=10, batch_size=16, peak_lr=0.025 if model.startswith("densenet") else 0.01, sizes=sizes
        )
    # Muon: 4 points more than SGD for a narrow ResNet-18, 9 for DenseNet, after four to six passes [here].
    return Recipe(
        epochs=10,
        optimizer="muon",
        peak_lr=0.2,
        filter_lr=0.05,
        momentum=0.8,
        label_smoothing=0,  # what is none of the classes is told better without [here]
        sizes=sizes,
    )


def with_changes(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with those fields changed that are not None, validated anew.

    Muon's learning rate goes with the other one, unless it is given too.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    peak = given.get("peak_lr")
    if recipe.optimizer == "muon" and isinstance(peak, int | float):
        given.setdefault("filter_lr", min(recipe.filter_lr * peak / recipe.peak_lr, 1))
    return Recipe.model_validate(recipe.model_dump() | given)
