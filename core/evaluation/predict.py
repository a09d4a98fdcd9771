"""One pass of a network over a set of images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from core.data.batches import normalise, resize_set
from core.device import autocast

BATCH_SIZE, CPU_BATCH_SIZE = 250, 64  # on a CPU DenseNet is 1.5 times as fast so, ResNet 1.1 times


class Interrupted(Exception):
    """Whoever was asked whether to stop said yes."""


def batch_size(device: torch.device) -> int:
    """Images that are asked about at once."""
    return CPU_BATCH_SIZE if device.type == "cpu" else BATCH_SIZE


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    size: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    mirror: bool = False,
    answer: Callable[[nn.Module, Tensor], Tensor] = nn.Module.__call__,
    should_stop: Callable[[], bool] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Logits (N, num_classes) float32 on the CPU for images (N, 3, H, W) uint8.

    Args:
        model: on `device`; it is put into evaluation mode, and back.
        mean, std: of each channel, in 0..1.
        size: images are resized to this height and width, in pixels.
        dtype: what convolutions run in; float32 where figures are to be repeatable anywhere.
        mirror: look at the mirror images instead.
        answer: what is asked of the network for a batch, if not its logits; a row an image.
        should_stop: asked before every batch.
        on_batch: told how many images are done, and how many there are.

    Raises:
        Interrupted: `should_stop` said yes.
    """
    mean_t, std_t = (torch.tensor(v, device=device, dtype=torch.float32) for v in (mean, std))
    was_training = model.training
    model.eval()
    logits: list[Tensor] = []
    count = batch_size(device)
    try:
        for start in range(0, len(images), count):
            if should_stop is not None and should_stop():
                raise Interrupted
            pixels = resize_set(images[start : start + count].to(device), size)
            batch = normalise(pixels, mean_t, std_t)
            with autocast(device, dtype):
                logits.append(answer(model, batch.flip(3) if mirror else batch).float())
            if on_batch is not None:
                on_batch(min(start + count, len(images)), len(images))
    finally:
        model.train(was_training)
    if not logits:
        return torch.empty(0, 0)
    return torch.cat(logits).cpu()
