"""DenseNet-BC for small images (Huang et al., "Densely Connected Convolutional Networks", 2017).

The blocks of DenseNet-121 (6, 12, 24, 16 layers) with a 3x3 stem and no max pooling, as usual for
CIFAR. Features are concatenated oldest first, as torchvision does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = (6, 12, 24, 16)
BOTTLENECK = 4  # channels of a layer's 1x1 convolution, in growth rates
REDUCTION = 0.5  # channels kept by a transition


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
        x = self.conv1(F.relu(self.bn1(x), inplace=True))
        return self.conv2(F.relu(self.bn2(x), inplace=True))


class DenseBlock(nn.ModuleList):
    """Layers that each read all feature maps made before them."""

    def __init__(self, num_layers: int, in_channels: int, growth_rate: int) -> None:
        super().__init__(DenseLayer(in_channels + i * growth_rate, growth_rate) for i in range(num_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.cat([x, layer(x)], dim=1)
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

    def forward_head(self, features: Tensor) -> Tensor:
        return self.fc(features.mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def densenet121(num_classes: int = 10, growth_rate: int = 12) -> DenseNet:
    return DenseNet(num_classes, growth_rate)
