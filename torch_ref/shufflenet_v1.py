"""PyTorch twins of flaxzoo/models/shufflenet_v1.py, which gives the references."""

import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import make_divisible

_FEATURES = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}


class ShuffleUnit(nn.Module):
    def __init__(self, in_features, out_features, stride, groups, first_groups):
        super().__init__()
        width = out_features // 4
        made = out_features if stride == 1 else out_features - in_features
        self.conv1 = nn.Conv2d(in_features, width, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, made, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.stride = stride
        self.shuffle = nn.ChannelShuffle(groups)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(self.shuffle(y)))
        y = self.bn3(self.conv3(y))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat([F.avg_pool2d(x, 3, stride=2, padding=1), y], 1))


class ShuffleNetV1(nn.Module):
    def __init__(self, groups, depths, num_classes=1000, in_channels=3, stem="imagenet", width=1.0):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        features = make_divisible(24 * 2.0 ** math.floor(math.log2(width)), groups)
        stride = 2 if stem == "imagenet" else 1
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, features, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
        )
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem == "imagenet" else nn.Identity()
        self.stage_names = []
        for i, depth in enumerate(depths):
            units = []
            for j in range(depth):
                out_features = make_divisible(_FEATURES[groups] * 2**i * width, 4 * groups)
                first_groups = 1 if i == j == 0 else groups
                stride = 2 if j == 0 else 1
                units.append(ShuffleUnit(features, out_features, stride, groups, first_groups))
                features = out_features
            self.stage_names.append(f"stage{i + 2}")
            setattr(self, self.stage_names[-1], nn.Sequential(*units))
        self.fc = nn.Linear(features, num_classes)

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


VARIANTS = {
    f"shufflenet_v1_g{groups}_x{width}".replace(".", "_"): partial(
        ShuffleNetV1, groups, (4, 8, 4), width=width
    )
    for groups in _FEATURES
    for width in (0.5, 1.0, 1.5, 2.0)
}
VARIANTS["test_shufflenet_v1"] = partial(ShuffleNetV1, 3, (2, 2), num_classes=10, width=0.25)
