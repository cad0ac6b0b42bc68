"""PyTorch twins of flaxzoo/models/squeezenet.py, which gives the references."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F


class Fire(nn.Module):
    def __init__(self, in_features, squeezed, expanded):
        super().__init__()
        self.squeeze = nn.Conv2d(in_features, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Module):
    def __init__(
        self, width, kernel_size, fires, num_classes=1000, in_channels=3, stem="imagenet",
        dropout=0.5,
    ):  # fmt: skip
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        if stem == "imagenet":
            first = nn.Conv2d(in_channels, width, kernel_size, stride=2)
        else:
            first = nn.Conv2d(in_channels, width, 3, padding=1)
        layers, features = [first, nn.ReLU()], width
        for i, stage in enumerate(fires):
            skipped = stem == "cifar" and i == 0
            layers.append(nn.Identity() if skipped else nn.MaxPool2d(3, 2, ceil_mode=True))
            for squeezed, expanded in stage:
                layers.append(Fire(features, squeezed, expanded))
                features = 2 * expanded
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(features, num_classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), last, nn.ReLU())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.get_parameter("bias"))
        nn.init.normal_(last.weight, std=0.01)

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


_FIRES_1_0 = (
    ((16, 64), (16, 64), (32, 128)),
    ((32, 128), (48, 192), (48, 192), (64, 256)),
    ((64, 256),),
)
_FIRES_1_1 = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)

VARIANTS = {
    "squeezenet1_0": partial(SqueezeNet, 96, 7, _FIRES_1_0),
    "squeezenet1_1": partial(SqueezeNet, 64, 3, _FIRES_1_1),
    "test_squeezenet": partial(
        SqueezeNet, 16, 7, (((8, 16),), ((8, 16), (12, 24)), ((12, 24),)), num_classes=10
    ),
}
