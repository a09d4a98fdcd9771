"""The two-convolution network of PyTorch's CIFAR-10 tutorial ("Training a Classifier")."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """Two 5x5 convolutions with max pooling, then three linear layers; 62,006 parameters.

    The tutorial's network takes 32 px only. An adaptive average pool to 5x5 before the first linear
    layer, the identity at 32 px, lets it take other sizes.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        # Pooling before ReLU is the same function on a quarter of the values.
        x = F.relu(F.max_pool2d(self.conv1(images), 2), inplace=True)
        return F.relu(F.max_pool2d(self.conv2(x), 2), inplace=True)  # (N, 16, 5, 5) at 32 px

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        if features.shape[-2:] != (5, 5):
            features = F.adaptive_avg_pool2d(features, 5)
        x = torch.flatten(features, 1)
        x = F.relu(self.fc1(x), inplace=True)
        x = F.relu(self.fc2(x), inplace=True)
        return x if pre_logits else self.fc3(x)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))
