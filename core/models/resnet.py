"""ResNet-18 for small images, and the same network without its shortcuts.

He et al., "Deep Residual Learning for Image Recognition" (2015), in the form usual for CIFAR: a 3x3
stem with stride 1 and no max pooling, four stages of two basic blocks.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from core.models.winograd import Conv3x3

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to the block's input.

    Where the shape changes the input goes through a 1x1 convolution and BatchNorm (the paper's
    option B). With `shortcut=False` nothing is added: the plain network of the paper's section 4.1.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: bool = True) -> None:
        super().__init__()
        self.conv1 = Conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = Conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        if not shortcut:
            self.shortcut = None
        elif stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return F.relu(out, inplace=True)


class ResNet(nn.Module):
    def __init__(self, num_classes: int = 10, shortcuts: bool = True) -> None:
        super().__init__()
        self.conv1 = Conv3x3(3, WIDTHS[0])
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        blocks = []
        in_channels = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            blocks.append(BasicBlock(in_channels, width, 1 if stage == 0 else 2, shortcuts))
            blocks.append(BasicBlock(width, width, 1, shortcuts))
            in_channels = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        return self.blocks(x)  # (N, 512, H/8, W/8)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = features.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def resnet18(num_classes: int = 10) -> ResNet:
    return ResNet(num_classes)


def plain18(num_classes: int = 10) -> ResNet:
    """ResNet-18 with every shortcut removed: for seeing what the additions are worth."""
    return ResNet(num_classes, shortcuts=False)
