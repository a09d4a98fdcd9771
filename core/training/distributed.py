"""Several processes training one network: torchrun --nproc-per-node=N -m core train ...

Every process holds all images, draws the same choices for the whole batch and works on its slice;
gradients are averaged by DistributedDataParallel. The first process decides when to stop and alone
writes anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process's place among all; with `world` 1 everything here does nothing."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    control: dist.ProcessGroup | None = None  # on the CPU, so that agreeing never waits for a GPU

    def device(self, device: torch.device) -> torch.device:
        """The one this process is to use: its own GPU."""
        return torch.device("cuda", self.local_rank) if device.type == "cuda" and self.world > 1 else device

    def wrap(self, model: nn.Module) -> nn.Module:
        """Average gradients over all processes; BatchNorm statistics are the first process's."""
        return DistributedDataParallel(model) if self.world > 1 else model

    def agree(self, stop: bool, read: bool) -> tuple[bool, bool]:
        """The first process's answers, for all."""
        if self.world == 1:
            return stop, read
        answers = torch.tensor([stop, read], dtype=torch.uint8)
        dist.broadcast(answers, 0, group=self.control)
        return bool(answers[0]), bool(answers[1])

    def mean(self, values: Tensor) -> Tensor:
        """Mean over all processes, elementwise."""
        return self.sum(values) / self.world if self.world > 1 else values

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, elementwise."""
        if self.world == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until every process has come here."""
        if self.world > 1:
            dist.barrier(group=self.control)

    def share(self, images: Tensor) -> Tensor:
        """This process's part of (N, ...), the parts being in order."""
        return images.tensor_split(self.world)[self.rank]

    def gather(self, part: Tensor) -> Tensor:
        """All parts (n, ...) on the CPU, put together in order, on every process."""
        if self.world == 1:
            return part
        parts: list[Tensor | None] = [None] * self.world
        dist.all_gather_object(parts, part, group=self.control)
        return torch.cat(parts)


ALONE = Ranks()


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes, if torchrun has started this one; leave them at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(
            rank=dist.get_rank(),
            world=world,
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            control=dist.new_group(backend="gloo"),
        )
    finally:
        dist.destroy_process_group()
