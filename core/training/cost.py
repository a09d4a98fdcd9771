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
from core.training.recipe import Recipe

COMPILE_MARGIN = 1.2  # a saving has to be this much larger than the cost to be worth the risk

# Measured by this project on 2 cores (see README, Speed): compiled step / eager step and seconds to
# compile, by device, arithmetic and network; 1.0 where compiling brought nothing.
COMPILE_RECORD: dict[tuple[str, str, str], tuple[float, float]] = {
    ("cpu", "float32", "resnet18"): (0.87, 35.0),
    ("cpu", "float32", "plain18"): (0.87, 35.0),
    ("cpu", "float32", "densenet121_k12"): (0.91, 310.0),
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
    model: nn.Module, size: int, batch_size: int, dtype: torch.dtype, device: torch.device, repeats: int = 1
) -> tuple[float, float]:
    """Seconds of a training step and of a test pass over one batch, of random images.

    The network's weights and statistics change: give a copy.
    """
    images = torch.randn(batch_size, 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, nesterov=True)

    def train() -> None:
        model.train()
        with autocast(device, dtype):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def test() -> None:
        model.eval()
        with autocast(device, dtype):
            model(images)

    return _timed(train, device, repeats), _timed(test, device, repeats)


def predict_cost(
    model_name: str,
    num_classes: int,
    recipe: Recipe,
    *,
    train_images: int,
    test_images: int,
    device: torch.device,
    dtype: torch.dtype,
    probe: int = 64,
) -> Cost:
    """Predict the cost of a training from two steps of at most `probe` images at each size.

    On a GPU the probe is the whole batch: there, a small one tells little.
    """
    probe = recipe.batch_size if device.type == "cuda" else min(recipe.batch_size, probe)
    share = recipe.batch_size / probe
    with torch.random.fork_rng(devices=[]):
        model = place(create_model(model_name, num_classes), device)
    step_seconds, test_image_seconds = {}, {}
    for _, size in recipe.sizes:
        trial = copy.deepcopy(model)
        step, test = measure_step(trial, size, probe, dtype, device, repeats=2)
        step_seconds[size] = step * share
        test_image_seconds[size] = test / probe
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
    saved = sum(steps[size] * cost.step_seconds[size] * (1 - ratio) for size in steps)
    spent = seconds * len(steps)
    words = f"would save about {saved:.0f} s for about {spent:.0f} s of compiling"
    return CompileDecision(saved > COMPILE_MARGIN * spent, words)


def _timed(work: Callable[[], None], device: torch.device, repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
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
