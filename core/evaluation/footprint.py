"""What a network costs to use: multiply-adds for an image, and images a second on this machine."""

import time
from functools import lru_cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from core.checkpoint import Checkpoint
from core.evaluation.predict import batch_size, predict
from core.models import create_model


class Footprint(NamedTuple):
    """Numbers of weights, and of multiply-adds of convolutions and linear layers for one image."""

    parameters: int
    multiply_adds: int


@lru_cache(maxsize=64)  # asked for whenever results are shown
def footprint(model: str, num_classes: int, size: int) -> Footprint:
    """Of a network for images of `size` pixels a side. A multiply-add is two FLOPs."""
    with torch.device("meta"):
        network = create_model(model, num_classes).eval()
        images = torch.empty(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return Footprint(sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2)


def images_per_second(checkpoint: Checkpoint, seconds: float = 1.0) -> float:
    """Measured here and now on noise, in batches as `predict` uses them, for about so many seconds."""
    info = checkpoint.info
    device = next(checkpoint.model.parameters()).device
    shape = (batch_size(device), 3, info.image_size, info.image_size)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8)
    ask = {"size": info.image_size, "device": device}
    predict(checkpoint.model, noise[:10], info.mean, info.std, **ask)  # warm
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        predict(checkpoint.model, noise, info.mean, info.std, **ask)
        done += len(noise)
    return done / (time.perf_counter() - start)
