"""How fast our loop is beside the one a user would otherwise write, measured in turns.

The plain loop is the usual script (as in kuangliu/pytorch-cifar): a Dataset of PIL images, a DataLoader
with two workers, torchvision's transforms, eager float32 NCHW, SGD, and values read back every step. It
runs in a process of its own, as a user's script does, so that nothing that we set up is set up for it;
one of the two processes always waits for the other.
"""

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from core.data import DataSet, ImageSet
from core.device import describe_device, pick_device
from core.models import create_model
from core.training.recipe import TrainConfig
from core.training.trainer import Trainer

TURNS = 3  # of each loop; figures are medians over them
BATCH_SIZES = (32, 64, 128, 256)
WARM_UP = 2  # steps before a clock starts


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images as the usual scripts hold them: each one becomes a PIL image, then a tensor."""

    def __init__(self, images: ImageSet, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._images = images.images.permute(0, 2, 3, 1).numpy()
        self._labels = images.labels.tolist()
        size = images.images.shape[-1]
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(size, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


class PlainLoop:
    """The usual script's loop, written as a user would."""

    def __init__(
        self, config: TrainConfig, num_classes: int, images: ImageSet, mean: list[float], std: list[float]
    ) -> None:
        self.device = pick_device(config.device)
        self.loader = DataLoader(
            PilImages(images, tuple(mean), tuple(std)),
            batch_size=config.recipe.batch_size,
            shuffle=True,
            num_workers=2,
        )
        self.model = create_model(config.model, num_classes).to(self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        self._batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def run(self, steps: int) -> None:
        self.model.train()
        total, correct = 0.0, 0
        for _ in range(steps):
            images, labels = next(self._batches)
            images, labels = images.to(self.device), labels.to(self.device)
            self.step(images, labels)

            total += self.loss.item()
            correct += self.logits.argmax(dim=1).eq(labels).sum().item()

    def step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad()
        self.logits = self.model(images)
        self.loss = F.cross_entropy(self.logits, labels)
        self.loss.backward()
        self.optimizer.step()


class OurLoop:
    """The trainer's own batches and steps; losses are read back once a turn."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.batches = trainer.batches(trainer.recipe.image_size)

    def run(self, steps: int) -> None:
        losses = []
        for _ in range(steps):
            losses.append(self.trainer.train_step(*self.batches.batch(self.trainer.step % len(self.batches))))
            self.trainer.step = (self.trainer.step + 1) % self.trainer.steps_total
        torch.stack(losses).tolist()


class BareStep:
    """The plain loop's step on one batch that is already there: no loader, nothing read back."""

    def __init__(self, plain: PlainLoop) -> None:
        self.plain = plain
        images, labels = next(plain._batches)
        self.images, self.labels = images.to(plain.device), labels.to(plain.device)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.plain.step(self.images, self.labels)
        self.plain.loss.item()


def _serve_plain(connection: Connection, *args: Any) -> None:
    """Time what is asked for, `(loop, steps)`, until the other side hangs up."""
    multiprocessing.set_start_method(None, force=True)  # for its DataLoader, as in a script: the system's own
    plain = PlainLoop(*args)
    loops = {"plain": plain, "bare": BareStep(plain)}
    while True:
        try:
            name, steps = connection.recv()
        except EOFError:
            return
        connection.send(_seconds(loops[name].run, steps))


class PlainProcess:
    """The plain loop and its bare step in a process of their own; `with` ends it."""

    def __init__(self, trainer: Trainer) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        images = ImageSet(trainer.train_images.images.cpu(), trainer.train_images.labels.cpu())
        args = (other, trainer.config, len(trainer.data.classes), images, trainer.mean, trainer.std)
        self._process = context.Process(target=_serve_plain, args=args)
        self._process.start()
        other.close()

    def __enter__(self) -> "PlainProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join(10)
        self._process.terminate()

    def seconds(self, loop: str, steps: int) -> float:
        """Seconds of `steps` steps of the `plain` loop or of its `bare` step."""
        self._connection.send((loop, steps))
        return self._connection.recv()


def benchmark(
    config: TrainConfig, data: DataSet, steps: int, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Time all three in turns, `steps` steps a turn.

    Returns:
        `images_per_second` ours, `plain_images_per_second`, `bare_images_per_second`, the `ratio` of the
        first two, `compile_seconds` (0 where nothing was compiled; never part of a rate),
        `peak_memory_mb` of this process, and `seconds_per_image` by batch size of our step.
    """
    trainer = Trainer(config, data)
    ours = OurLoop(trainer)
    compile_seconds = 0.0
    if config.compile == "on":
        tell("compiling")
        events = list(trainer.compile_for(ours.batches))
        compile_seconds = events[-1]["seconds"]
    rates: dict[str, list[float]] = {"ours": [], "plain": [], "bare": []}
    with PlainProcess(trainer) as others:
        for turn in range(TURNS + 1):
            for name, found in rates.items():
                warming = turn == 0
                tell(f"warming up: {name}" if warming else f"turn {turn} of {TURNS}: {name}")
                count = WARM_UP if warming else steps
                seconds = _seconds(ours.run, count) if name == "ours" else others.seconds(name, count)
                if not warming:
                    found.append(count * trainer.recipe.batch_size / seconds)
    peak = _peak_memory_mb(trainer.device)
    ours_rate, plain_rate, bare_rate = (statistics.median(rates[n]) for n in ("ours", "plain", "bare"))
    return {
        "model": config.model,
        "data": data.name,
        "device": describe_device(trainer.device),
        "precision": str(trainer.dtype).removeprefix("torch."),
        "batch_size": trainer.recipe.batch_size,
        "image_size": trainer.recipe.image_size,
        "steps": steps,
        "turns": TURNS,
        "images_per_second": ours_rate,
        "plain_images_per_second": plain_rate,
        "bare_images_per_second": bare_rate,
        "ratio": ours_rate / plain_rate,
        "ratio_of_each_turn": [a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)],
        "compile_seconds": compile_seconds,
        "peak_memory_mb": peak,
        "seconds_per_image": _by_batch_size(trainer, ours, tell),
    }


def profile(config: TrainConfig, data: DataSet, steps: int = 3) -> str:
    """Where the time of our step goes: a table of operators."""
    ours = OurLoop(Trainer(config, data))
    ours.run(WARM_UP)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if ours.trainer.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as recorded:
        ours.run(steps)
    return recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=20)


def _by_batch_size(trainer: Trainer, ours: OurLoop, tell: Callable[[str], None]) -> dict[str, float]:
    pixels, labels = ours.batches.batch(0)
    found = {}
    for size in BATCH_SIZES:
        if size > 2 * len(labels):
            continue
        tell(f"batch size {size}")
        times = -(-size // len(labels))
        images = pixels.repeat(times, 1, 1, 1)[:size].contiguous(memory_format=torch.channels_last)
        targets = labels.repeat(times)[:size]

        def step(count: int, images: Tensor = images, targets: Tensor = targets) -> None:
            for _ in range(count):
                loss = trainer.train_step(images, targets)
            loss.item()

        step(1)
        found[str(size)] = _seconds(step, 2) / (2 * size)
    return found


def _seconds(run: Callable[[int], None], steps: int) -> float:
    """Seconds of `run(steps)`, which ends by reading a value back and so waits for the device."""
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, else in kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
