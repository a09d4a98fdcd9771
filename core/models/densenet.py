"""DenseNet-BC for small images (Huang et al., "Densely Connected Convolutional Networks", 2017).

The blocks of DenseNet-121 (6, 12, 24, 16 layers) with a 3x3 stem and no max pooling, as usual for
CIFAR. Features are concatenated oldest first, as torchvision does.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BLOCKS = (6, 12, 24, 16)
BOTTLENECK = 4  # channels of a layer's 1x1 convolution, in growth rates
REDUCTION = 0.5  # channels kept by a transition


class _NormaliseShared(torch.autograd.Function):
    """BatchNorm of (N, C, H, W) with statistics that were computed elsewhere, differentiable in them.

    With y = w (x - mean) r + b and r = 1 / sqrt(var + eps), the sums that give the gradients of w and b
    also give those of mean and var, so nothing is read twice.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, mean, var, weight)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, var, weight = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        scale = torch.rsqrt(var + ctx.eps)
        grad_mean = -weight * scale * grad_bias
        grad_var = -0.5 * weight * scale.square() * grad_weight
        return grad_x, grad_mean, grad_var, grad_weight, grad_bias, None


class _Statistics(torch.autograd.Function):
    """Mean and biased variance (C,) float32 of each channel of (N, C, H, W), any float type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        # The BatchNorm kernel is the fastest reader of channels-last maps; var_mean took 5 times as long.
        # Given float32 weights it computes in float32 what comes in bfloat16.
        dtype = torch.promote_types(x.dtype, torch.float32)
        weight = torch.ones(x.shape[1], device=x.device, dtype=dtype)
        bias = torch.zeros(x.shape[1], device=x.device, dtype=dtype)
        _, mean, scale = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, 0.0)
        ctx.save_for_backward(x, mean)
        return mean, scale.square().reciprocal()

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        slope = grad_var * (2 / count)
        offset = grad_mean / count - slope * mean
        return torch.addcmul(offset.to(x.dtype)[:, None, None], x, slope.to(x.dtype)[:, None, None])


@torch.no_grad()
def _follow(bn: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    """Update running statistics as `nn.BatchNorm2d` does, from statistics over `count` values."""
    bn.running_mean.lerp_(mean, bn.momentum)
    bn.running_var.lerp_(var * (count / max(count - 1, 1)), bn.momentum)
    bn.num_batches_tracked += 1


class DenseLayer(nn.Module):
    """BatchNorm, 1x1 convolution, BatchNorm, 3x3 convolution: (N, C, H, W) to `growth_rate` maps."""

    def __init__(self, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        width = BOTTLENECK * growth_rate
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, growth_rate, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.conv1(F.relu(self.bn1(x), inplace=True)))

    def reduce(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """The first half of `forward`, with the statistics of `x` given."""
        bn = self.bn1
        x = _NormaliseShared.apply(x, mean, var, bn.weight, bn.bias, bn.eps)
        return self.conv1(F.relu(x, inplace=True))

    def expand(self, x: Tensor) -> Tensor:
        """The second half of `forward`."""
        return self.conv2(F.relu(self.bn2(x), inplace=True))


class DenseBlock(nn.ModuleList):
    """Layers that each read all feature maps made before them.

    Attributes:
        memory_efficient: in training, compute each layer's normalised input again in the backward pass
            instead of keeping it (Pleiss et al. 2017). The mean and variance of a feature map are then
            computed once and shared by all BatchNorms that read it, so both passes see the same.
            Less memory, more time; the same results.
    """

    def __init__(self, num_layers: int, in_channels: int, growth_rate: int) -> None:
        super().__init__(DenseLayer(in_channels + i * growth_rate, growth_rate) for i in range(num_layers))
        self.memory_efficient = False

    def forward(self, x: Tensor) -> Tensor:
        if self.memory_efficient and self.training:
            return self._forward_sharing(x)
        for layer in self:
            x = torch.cat([x, layer(x)], dim=1)
        return x

    def _forward_sharing(self, x: Tensor) -> Tensor:
        mean, var = _Statistics.apply(x)
        count = x.numel() // x.shape[1]
        for layer in self:
            _follow(layer.bn1, mean, var, count)
            new = layer.expand(checkpoint(layer.reduce, x, mean, var, use_reentrant=False))
            new_mean, new_var = _Statistics.apply(new)
            x = torch.cat([x, new], dim=1)
            mean, var = torch.cat([mean, new_mean]), torch.cat([var, new_var])
        return x


class Transition(nn.Module):
    """BatchNorm, 1x1 convolution to half the channels, 2x2 average pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x), inplace=True)), 2)


class DenseNet(nn.Module):
    def __init__(self, num_classes: int = 10, growth_rate: int = 12) -> None:
        super().__init__()
        channels = 2 * growth_rate
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        for i, num_layers in enumerate(BLOCKS):
            stages.append(DenseBlock(num_layers, channels, growth_rate))
            channels += num_layers * growth_rate
            if i < len(BLOCKS) - 1:
                reduced = int(channels * REDUCTION)
                stages.append(Transition(channels, reduced))
                channels = reduced
        self.stages = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.fc.bias)

    def forward_features(self, images: Tensor) -> Tensor:
        return F.relu(self.bn(self.stages(self.conv1(images))), inplace=True)  # (N, C, H/8, W/8)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = features.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def densenet121(num_classes: int = 10, growth_rate: int = 12) -> DenseNet:
    return DenseNet(num_classes, growth_rate)


def use_less_memory(model: nn.Module) -> None:
    """Switch `memory_efficient` on in every dense block of a network; others are left as they are."""
    for module in model.modules():
        if isinstance(module, DenseBlock):
            module.memory_efficient = True
