"""PyTorch twins of flaxzoo/models/legacy_senet.py, which gives the references."""

from collections import OrderedDict
from functools import partial

from torch import nn
from torch.nn import functional as F

_conv = partial(nn.Conv2d, bias=False)


class SEModule(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.fc1 = nn.Conv2d(features, features // 16, 1)
        self.fc2 = nn.Conv2d(features // 16, features, 1)

    def forward(self, x):
        gate = F.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * self.fc2(gate).sigmoid()


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_features, planes, stride, groups):
        super().__init__()
        self._build(in_features, (planes, planes, 4 * planes), (stride, 1), groups, 1)

    def _build(self, in_features, widths, strides, groups, down_kernel):
        a, b, c = widths
        self.conv1 = _conv(in_features, a, 1, strides[0])
        self.bn1 = nn.BatchNorm2d(a)
        self.conv2 = _conv(a, b, 3, strides[1], padding=1, groups=groups)
        self.bn2 = nn.BatchNorm2d(b)
        self.conv3 = _conv(b, c, 1)
        self.bn3 = nn.BatchNorm2d(c)
        self.se_module = SEModule(c)
        self.downsample = None
        if max(strides) > 1 or in_features != c:
            conv = _conv(in_features, c, down_kernel, max(strides), padding=down_kernel // 2)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(c))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.se_module(self.bn3(self.conv3(x))) + shortcut)


class WideBottleneck(Bottleneck):
    def __init__(self, in_features, planes, stride, groups):
        nn.Module.__init__(self)
        widths, down_kernel = (2 * planes, 4 * planes, 4 * planes), 1 if stride == 1 else 3
        self._build(in_features, widths, (1, stride), groups, down_kernel)


class LegacySENet(nn.Module):
    def __init__(
        self, blocks, depths, groups, deep_stem, planes, num_classes=1000, in_channels=3,
        stem="imagenet", dropout=0.2,
    ):  # fmt: skip
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        imagenet = stem == "imagenet"
        size, widths = (3, (planes, planes, 2 * planes)) if deep_stem else (7, (planes,))
        if not imagenet:
            size = 3
        features, stride, layers = in_channels, 2 if imagenet else 1, OrderedDict()
        for i, width in enumerate(widths, start=1):
            layers[f"conv{i}"] = _conv(features, width, size, stride, padding=size // 2)
            layers[f"bn{i}"] = nn.BatchNorm2d(width)
            layers[f"relu{i}"] = nn.ReLU()
            features, stride = width, 1
        self.layer0 = nn.Sequential(layers)
        self.pool0 = nn.MaxPool2d(3, stride=2, ceil_mode=True) if imagenet else nn.Identity()
        self.stage_names = []
        for i, (block, depth) in enumerate(zip(blocks, depths, strict=True)):
            layers = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                layers.append(block(features, planes * 2**i, stride, groups))
                features = planes * 2**i * block.expansion
            self.stage_names.append(f"layer{i + 1}")
            setattr(self, self.stage_names[-1], nn.Sequential(*layers))
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.pool0(self.layer0(x))
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return self.last_linear(self.dropout(x.mean((2, 3))))


VARIANTS = {
    "legacy_seresnet50": partial(LegacySENet, [Bottleneck] * 4, (3, 4, 6, 3), 1, False, 64),
    "legacy_senet154": partial(LegacySENet, [WideBottleneck] * 4, (3, 8, 36, 3), 64, True, 64),
    "test_legacy_senet": partial(
        LegacySENet, (WideBottleneck, Bottleneck, WideBottleneck), (2, 1, 1), 4, True, 8,
        num_classes=10,
    ),
}  # fmt: skip
