"""PyTorch twins of flaxzoo/models/resnet.py, which gives the references."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

_conv = partial(nn.Conv2d, bias=False)


def _projection(in_features, out_features, stride):
    if stride == 1 and in_features == out_features:
        return None
    return nn.Sequential(_conv(in_features, out_features, 1, stride), nn.BatchNorm2d(out_features))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_features, planes, stride=1, groups=1, group_width=64):
        super().__init__()
        width = planes * group_width // 64 * groups
        self.conv1 = _conv(in_features, width, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, planes, 3, padding=1, groups=groups)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _projection(in_features, planes, stride)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_features, planes, stride=1, groups=1, group_width=64):
        super().__init__()
        width = planes * group_width // 64 * groups
        out_features = planes * self.expansion
        self.conv1 = _conv(in_features, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride, padding=1, groups=groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_features, 1)
        self.bn3 = nn.BatchNorm2d(out_features)
        self.downsample = _projection(in_features, out_features, stride)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    def __init__(
        self, block, depths, num_classes=1000, in_channels=3, stem="imagenet", planes=64, **options
    ):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        if stem == "imagenet":
            self.conv1 = _conv(in_channels, planes, 7, stride=2, padding=3)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = _conv(in_channels, planes, 3, padding=1)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.stage_names = []
        features = planes
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(block(features, planes * 2**i, stride, **options))
                features = planes * 2**i * block.expansion
            self.stage_names.append(f"layer{i + 1}")
            setattr(self, self.stage_names[-1], nn.Sequential(*blocks))
        self.fc = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


class CifarBlock(nn.Module):
    def __init__(self, in_features, planes, stride=1):
        super().__init__()
        self.conv1 = _conv(in_features, planes, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride = stride

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        x = x[:, :, :: self.stride, :: self.stride]
        extra = (y.shape[1] - x.shape[1]) // 2
        return F.relu(y + F.pad(x, (0, 0, 0, 0, extra, extra)))


class CifarResNet(nn.Module):
    def __init__(self, blocks_per_stage, num_classes=10, in_channels=3):
        super().__init__()
        self.conv1 = _conv(in_channels, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, 1, blocks_per_stage)
        self.layer2 = self._stage(16, 32, 2, blocks_per_stage)
        self.layer3 = self._stage(32, 64, 2, blocks_per_stage)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_features, planes, stride, blocks):
        first = CifarBlock(in_features, planes, stride)
        return nn.Sequential(first, *(CifarBlock(planes, planes) for _ in range(blocks - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


_cifar_resnext = partial(ResNet, Bottleneck, (3, 3, 3), num_classes=10, stem="cifar")

VARIANTS = {
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet101": partial(ResNet, Bottleneck, (3, 4, 23, 3)),
    "resnet152": partial(ResNet, Bottleneck, (3, 8, 36, 3)),
    "wide_resnet50_2": partial(ResNet, Bottleneck, (3, 4, 6, 3), group_width=128),
    "wide_resnet101_2": partial(ResNet, Bottleneck, (3, 4, 23, 3), group_width=128),
    "resnext18": partial(ResNet, BasicBlock, (2, 2, 2, 2), groups=32, group_width=4),
    "resnext34": partial(ResNet, BasicBlock, (3, 4, 6, 3), groups=32, group_width=4),
    "resnext50_32x4d": partial(ResNet, Bottleneck, (3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x8d": partial(ResNet, Bottleneck, (3, 4, 23, 3), groups=32, group_width=8),
    "resnext101_64x4d": partial(ResNet, Bottleneck, (3, 4, 23, 3), groups=64, group_width=4),
    "resnext152": partial(ResNet, Bottleneck, (3, 8, 36, 3), groups=32, group_width=4),
    "resnext29_2x64d": partial(_cifar_resnext, groups=2, group_width=64),
    "resnext29_8x64d": partial(_cifar_resnext, groups=8, group_width=64),
    "resnet20": partial(CifarResNet, 3),
    "resnet32": partial(CifarResNet, 5),
    "resnet44": partial(CifarResNet, 7),
    "resnet56": partial(CifarResNet, 9),
    "resnet110": partial(CifarResNet, 18),
    "resnet_tiny": partial(ResNet, BasicBlock, (1, 1), num_classes=10, stem="cifar", planes=16),
    "resnext_tiny": partial(
        ResNet, Bottleneck, (1, 1, 1), num_classes=10, stem="cifar", planes=16,
        groups=8, group_width=16,
    ),
}  # fmt: skip
