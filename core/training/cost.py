"""What a training will cost on this machine: seconds a step, measured, and whether compiling pays."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from core.device import autocast, place
from core.models import create_model
from core.training.optimizer import make_optimizers
from core.training.recipe import Recipe

PROBE_IMAGES = 16, 64  # a step; the first tells too much where a step is short, the second then costs little
PROBE_SECONDS = 1.2  # for the second probe of one image size; where one step takes longer it is left out
TIMES = 2, 8  # a probe is timed after a step to warm up, at least and at most; the quickest counts
COMPILE_MARGIN = 1.2  # a saving has to be this much larger than the cost to be worth the risk

# Measured by this project on 2 cores (see README, Speed): compiled step / eager step and seconds to
# compile, by device, arithmetic and network. A GPU's figures belong here as soon as they are measured.
COMPILE_RECORD: dict[tuple[str, str, str], tuple[float, float]] = {
    ("cpu", "float32", "resnet18"): (1.08, 100.0),  # 24 px, with Winograd's convolutions
    ("cpu", "float32", "simple_cnn"): (1.14, 6.0),
    ("cpu", "bfloat16", "resnet18"): (1.05, 35.0),
    ("cpu", "bfloat16", "densenet121_k12"): (2.6, 141.0),
    ("cpu", "bfloat16", "simple_cnn"): (1.25, 6.0),
}


@dataclass(frozen=True)
class Cost:
    """A prediction.

    Attributes:
        step_seconds: for each image size of the recipe.
        test_seconds: of one test after an epoch, at the final size.
        epoch_seconds: mean over all epochs, with its test.
        total_seconds: of the whole training, final report included, without loading data.
    """

    step_seconds: dict[int, float]
    test_seconds: float
    epoch_seconds: float
    total_seconds: float


@dataclass(frozen=True)
class CompileDecision:
    """Whether `torch.compile` is used, and why, in words."""

    use: bool
    reason: str


def measure_step(
    model: nn.Module, size: int, batch_size: int, dtype: torch.dtype, device: torch.device
) -> tuple[float, float]:
    """Seconds of the gradients and of a test pass of one batch, of random images.

    The network's statistics change: give a copy.
    """
    images = torch.randn(batch_size, 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)

    def train() -> None:
        model.train()
        with autocast(device, dtype):
            logits = model(images)
        model.zero_grad(set_to_none=True)
        F.cross_entropy(logits.float(), labels).backward()

    @torch.no_grad()
    def test() -> None:
        model.eval()
        with autocast(device, dtype):
            model(images)

    return _timed(train, device), _timed(test, device)


def measure_update(model: nn.Module, recipe: Recipe, device: torch.device) -> float:
    """Seconds of the optimizers' part of a step, whatever the batch. The weights change: give a copy."""
    optimizers = make_optimizers(model, recipe, device)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return _timed(lambda: [optimizer.step() for optimizer in optimizers], device)


def predict_cost(
    model_name: str,
    num_classes: int,
    recipe: Recipe,
    *,
    train_images: int,
    test_images: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Cost:
    """Predict the cost of a training from a few short steps at each size.

    On a GPU a probe is the whole batch: there, a small one tells little.
    """
    probes = (recipe.batch_size,) if device.type == "cuda" else PROBE_IMAGES
    with torch.random.fork_rng(devices=[]):
        model = place(create_model(model_name, num_classes), device)
    step_seconds, test_image_seconds = {}, {}
    update = measure_update(copy.deepcopy(model), recipe, device)
    for _, size in recipe.sizes:
        step = 0.0
        for images in (min(probe, recipe.batch_size) for probe in probes):
            if step * images * (1 + TIMES[0]) > PROBE_SECONDS:
                break
            step, test = (
                seconds / images
                for seconds in measure_step(copy.deepcopy(model), size, images, dtype, device)
            )
        step_seconds[size] = step * recipe.batch_size + update
        test_image_seconds[size] = test
    steps_per_epoch = train_images // recipe.batch_size
    total = steps_per_epoch * recipe.epochs
    starts = [round(start * total) for start, _ in recipe.sizes] + [total]
    training = sum(
        (starts[i + 1] - starts[i]) * step_seconds[size] for i, (_, size) in enumerate(recipe.sizes)
    )
    tested = min(recipe.epoch_test_images or test_images, test_images)
    tests = sum(
        tested * test_image_seconds[recipe.size_at((epoch + 1) * steps_per_epoch - 1, total)]
        for epoch in range(recipe.epochs)
    )
    size = recipe.image_size
    final = (test_images * (2 if recipe.tta else 1) + recipe.hold_out) * test_image_seconds[size]
    return Cost(
        step_seconds=step_seconds,
        test_seconds=tested * test_image_seconds[size],
        epoch_seconds=(training + tests) / recipe.epochs,
        total_seconds=training + tests + final,
    )


def decide_compile(
    wish: str, model_name: str, cost: Cost, steps: dict[int, int], device: torch.device, dtype: torch.dtype
) -> CompileDecision:
    """Compile if asked to, or if what is known of this network here says it is paid back in this run.

    Args:
        wish: on, off or auto.
        steps: how many steps there are at each image size; each size is compiled anew.
    """
    if wish == "on":
        return CompileDecision(True, "asked for")
    if wish == "off":
        return CompileDecision(False, "not wanted")
    kind = str(dtype).removeprefix("torch.")
    record = COMPILE_RECORD.get((device.type, kind, model_name))
    if record is None:
        return CompileDecision(False, f"no gain is known for {model_name} in {kind} on {device.type}")
    ratio, seconds = record
    if ratio >= 1:
        return CompileDecision(False, f"compiled, {model_name} in {kind} on {device.type} is not faster")
    saved = sum(steps[size] * cost.step_seconds[size] * (1 - ratio) for size in steps)
    spent = seconds * len(steps)
    words = f"would save about {saved:.0f} s for about {spent:.0f} s of compiling"
    return CompileDecision(saved > COMPILE_MARGIN * spent, words)


def _timed(work: Callable[[], None], device: torch.device) -> float:
    work()
    times: list[float] = []
    least, most = TIMES
    while len(times) < least or (len(times) < most and sum(times) < PROBE_SECONDS / 2):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - start)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
