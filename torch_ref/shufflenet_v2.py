"""PyTorch twins of flaxzoo/models/shufflenet_v2.py, which gives the references."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F


def _conv(in_features, out_features, kernel_size, stride=1, groups=1):
    return nn.Conv2d(
        in_features, out_features, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )


def _conv_norm(in_features, out_features, kernel_size, stride=1):
    conv = _conv(in_features, out_features, kernel_size, stride)
    return nn.Sequential(conv, nn.BatchNorm2d(out_features), nn.ReLU())


class InvertedResidual(nn.Module):
    def __init__(self, in_features, out_features, stride):
        super().__init__()
        width = out_features // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(
                _conv(in_features, in_features, 3, stride, in_features),
                nn.BatchNorm2d(in_features),
                *_conv_norm(in_features, width, 1),
            )
        self.branch2 = nn.Sequential(
            *_conv_norm(in_features if stride == 2 else width, width, 1),
            _conv(width, width, 3, stride, width),
            nn.BatchNorm2d(width),
            *_conv_norm(width, width, 1),
        )

    def forward(self, x):
        first, second = (x, x) if self.stride == 2 else x.chunk(2, dim=1)
        x = torch.cat([self.branch1(first), self.branch2(second)], 1)
        return F.channel_shuffle(x, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, depths, features, num_classes=1000, in_channels=3, stem="imagenet"):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        self.conv1 = _conv_norm(in_channels, 24, 3, stride=2 if stem == "imagenet" else 1)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem == "imagenet" else nn.Identity()
        self.stage_names = [f"stage{i}" for i in range(2, len(depths) + 2)]
        *widths, last = features
        width = 24
        for name, depth, out_features in zip(self.stage_names, depths, widths, strict=True):
            units = [InvertedResidual(width, out_features, 2)]
            for _ in range(depth - 1):
                units.append(InvertedResidual(out_features, out_features, 1))
            setattr(self, name, nn.Sequential(*units))
            width = out_features
        self.conv5 = _conv_norm(width, last, 1)
        self.fc = nn.Linear(last, num_classes)

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return self.fc(self.conv5(x).mean((2, 3)))


_DEPTHS = (4, 8, 4)

VARIANTS = {
    "shufflenet_v2_x0_5": partial(ShuffleNetV2, _DEPTHS, (48, 96, 192, 1024)),
    "shufflenet_v2_x1_0": partial(ShuffleNetV2, _DEPTHS, (116, 232, 464, 1024)),
    "shufflenet_v2_x1_5": partial(ShuffleNetV2, _DEPTHS, (176, 352, 704, 1024)),
    "shufflenet_v2_x2_0": partial(ShuffleNetV2, _DEPTHS, (244, 488, 976, 2048)),
    "test_shufflenet_v2": partial(ShuffleNetV2, (2, 2), (32, 64, 128), num_classes=10),
}
