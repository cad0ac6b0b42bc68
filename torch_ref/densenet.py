"""PyTorch twins of flaxzoo/models/densenet.py, which gives the references."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

_conv = partial(nn.Conv2d, bias=False)


class DenseLayer(nn.Module):
    def __init__(self, in_features, growth, bottleneck, dropout):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_features)
        if bottleneck:
            self.conv1 = _conv(in_features, 4 * growth, 1)
            self.norm2 = nn.BatchNorm2d(4 * growth)
            self.conv2 = _conv(4 * growth, growth, 3, padding=1)
        else:
            self.conv1 = _conv(in_features, growth, 3, padding=1)
        self.bottleneck = bottleneck
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = self.conv1(F.relu(self.norm1(x)))
        if self.bottleneck:
            x = self.conv2(F.relu(self.norm2(x)))
        return self.dropout(x)


class DenseBlock(nn.Sequential):
    def __init__(self, depth, in_features, growth, bottleneck, dropout):
        super().__init__()
        for i in range(depth):
            layer = DenseLayer(in_features + i * growth, growth, bottleneck, dropout)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x):
        for layer in self:
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseNet(nn.Module):
    def __init__(
        self, depths, growth, stem_features, num_classes=1000, in_channels=3, stem="imagenet",
        bc=True, dropout=0.0,
    ):  # fmt: skip
        super().__init__()
        self.features = nn.Sequential()
        if stem == "imagenet":
            conv0 = _conv(in_channels, stem_features, 7, stride=2, padding=3)
            self.features.add_module("conv0", conv0)
            self.features.add_module("norm0", nn.BatchNorm2d(stem_features))
            self.features.add_module("relu0", nn.ReLU())
            self.features.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        else:
            self.features.add_module("conv0", _conv(in_channels, stem_features, 3, padding=1))
        features = stem_features
        for i, depth in enumerate(depths, start=1):
            block = DenseBlock(depth, features, growth, bc, dropout)
            self.features.add_module(f"denseblock{i}", block)
            features += depth * growth
            if i < len(depths):
                out_features = features // 2 if bc else features
                transition = nn.Sequential()
                transition.add_module("norm", nn.BatchNorm2d(features))
                transition.add_module("relu", nn.ReLU())
                transition.add_module("conv", _conv(features, out_features, 1))
                transition.add_module("pool", nn.AvgPool2d(2))
                self.features.add_module(f"transition{i}", transition)
                features = out_features
        self.features.add_module("norm5", nn.BatchNorm2d(features))
        self.classifier = nn.Linear(features, num_classes)
        nn.init.zeros_(self.classifier.bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x):
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))


_cifar = partial(DenseNet, num_classes=10, stem="cifar")

VARIANTS = {
    "densenet121": partial(DenseNet, (6, 12, 24, 16), 32, 64),
    "densenet161": partial(DenseNet, (6, 12, 36, 24), 48, 96),
    "densenet169": partial(DenseNet, (6, 12, 32, 32), 32, 64),
    "densenet201": partial(DenseNet, (6, 12, 48, 32), 32, 64),
    "densenet40_k12": partial(_cifar, (12, 12, 12), 12, 16, bc=False),
    "densenet_bc_100_k12": partial(_cifar, (16, 16, 16), 12, 24),
    "test_densenet": partial(DenseNet, (2, 1), 4, 8, num_classes=10),
}
