"""Where in a picture a network found what speaks for a class."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from core.checkpoint import Checkpoint
from core.data.batches import normalise, resize_set

# Dark to bright in equal steps, readable with any colour vision (after matplotlib's "inferno").
RAMP = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
STRENGTH = 0.6  # share of the colour in the mixture with the grey picture


def grad_cam(
    checkpoint: Checkpoint, pixels: Tensor, targets: Sequence[int | None] = (None,)
) -> tuple[Tensor, Tensor]:
    """Logits and one heat map a class (Selvaraju et al., "Grad-CAM", 2017), from the last feature map.

    Args:
        pixels: (3, H, W) uint8.
        targets: classes, by number; None for the one that the network takes it for.

    Returns:
        Logits (num_classes,), and heat (len(targets), h, w) of which each map's highest value is 1, or
        0 where nothing speaks for the class.
    """
    info, model = checkpoint.info, checkpoint.model
    device = next(model.parameters()).device
    mean, std = (torch.tensor(v, device=device) for v in (info.mean, info.std))
    with torch.no_grad():
        images = normalise(resize_set(pixels[None].to(device), info.image_size), mean, std)
        features = model.forward_features(images)
    with torch.enable_grad():
        copies = features.repeat(len(targets), 1, 1, 1).requires_grad_()
        logits = model.forward_head(copies)
        best = int(logits[0].argmax())
        chosen = logits[range(len(targets)), [best if t is None else t for t in targets]].sum()
        weights = torch.autograd.grad(chosen, copies)[0].mean(dim=(2, 3), keepdim=True)
    heat = (weights * copies).sum(dim=1).clamp_min(0).detach()
    highest = heat.amax(dim=(1, 2), keepdim=True)
    return logits[0].detach().float().cpu(), (heat / highest.clamp_min(1e-12)).float().cpu()


def overlay(image: Image.Image, heat: Tensor) -> Image.Image:
    """A heat map (h, w) in 0..1 as colours over the picture in grey, at the picture's size."""
    steps = torch.linspace(0, len(RAMP) - 1, 256)
    low = steps.long().clamp_max(len(RAMP) - 2)
    ramp = torch.tensor(RAMP, dtype=torch.float32)
    palette = torch.lerp(ramp[low], ramp[low + 1], (steps - low)[:, None]).round().to(torch.uint8)
    levels = Image.fromarray((heat.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    colours = levels.resize(image.size, Image.Resampling.BILINEAR)
    colours.putpalette(palette.flatten().tolist())
    return Image.blend(image.convert("L").convert("RGB"), colours.convert("RGB"), STRENGTH)
