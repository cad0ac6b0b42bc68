"""PyTorch twin of flaxzoo/models/regnet.py, which gives the references."""

import math
from collections import Counter, OrderedDict
from functools import partial

from torch import nn

from torch_ref.blocks import SqueezeExcitation


def _conv_norm(in_features, out_features, kernel_size, stride=1, groups=1, *, activate=True):
    conv = nn.Conv2d(
        in_features, out_features, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_features), *([nn.ReLU()] if activate else []))


class Block(nn.Module):
    def __init__(self, in_features, width, stride, group_width, se_ratio):
        super().__init__()
        self.proj = None
        if stride != 1 or in_features != width:
            self.proj = _conv_norm(in_features, width, 1, stride, activate=False)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["a"] = _conv_norm(in_features, width, 1)
        layers["b"] = _conv_norm(width, width, 3, stride, groups=width // group_width)
        if se_ratio:
            layers["se"] = SqueezeExcitation(width, round(se_ratio * in_features))
        layers["c"] = _conv_norm(width, width, 1, activate=False)
        self.f = nn.Sequential(layers)

    def forward(self, x):
        shortcut = x if self.proj is None else self.proj(x)
        return (shortcut + self.f(x)).relu()


class RegNet(nn.Module):
    def __init__(
        self, depth, w_0, w_a, w_m, group_width, se_ratio=0.0, num_classes=1000, in_channels=3,
        stem="imagenet",
    ):  # fmt: skip
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        features = 32
        self.stem = _conv_norm(in_channels, features, 3, stride=2 if stem == "imagenet" else 1)
        trunk = OrderedDict()
        for i, (width, count) in enumerate(_stages(depth, w_0, w_a, w_m), 1):
            groups_of = min(group_width, width)
            width = _multiple(width, groups_of)
            blocks = OrderedDict()
            for j in range(count):
                stride = 2 if j == 0 else 1
                blocks[f"block{i}-{j}"] = Block(features, width, stride, groups_of, se_ratio)
                features = width
            trunk[f"block{i}"] = nn.Sequential(blocks)
        self.trunk_output = nn.Sequential(trunk)
        self.fc = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        return self.fc(self.trunk_output(self.stem(x)).mean((2, 3)))


def _stages(depth, w_0, w_a, w_m):
    exponents = (round(math.log(1 + w_a * j / w_0, w_m)) for j in range(depth))
    return Counter(8 * round(w_0 * w_m**exponent / 8) for exponent in exponents).items()


def _multiple(value, divisor):
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


VARIANTS = {
    "regnet_y_400mf": partial(RegNet, 16, 48, 27.89, 2.09, 8, 0.25),
    "regnet_y_800mf": partial(RegNet, 14, 56, 38.84, 2.4, 16, 0.25),
    "regnet_y_1_6gf": partial(RegNet, 27, 48, 20.71, 2.65, 24, 0.25),
    "regnet_y_3_2gf": partial(RegNet, 21, 80, 42.63, 2.66, 24, 0.25),
    "regnet_y_8gf": partial(RegNet, 17, 192, 76.82, 2.19, 56, 0.25),
    "regnet_y_16gf": partial(RegNet, 18, 200, 106.23, 2.48, 112, 0.25),
    "regnet_y_32gf": partial(RegNet, 20, 232, 115.89, 2.53, 232, 0.25),
    "regnet_y_128gf": partial(RegNet, 27, 456, 160.83, 2.52, 264, 0.25),
    "regnet_x_400mf": partial(RegNet, 22, 24, 24.48, 2.54, 16),
    "regnet_x_800mf": partial(RegNet, 16, 56, 35.73, 2.28, 16),
    "regnet_x_1_6gf": partial(RegNet, 18, 80, 34.01, 2.25, 24),
    "regnet_x_3_2gf": partial(RegNet, 25, 88, 26.31, 2.25, 48),
    "regnet_x_8gf": partial(RegNet, 23, 80, 49.56, 2.88, 120),
    "regnet_x_16gf": partial(RegNet, 22, 216, 55.59, 2.1, 128),
    "regnet_x_32gf": partial(RegNet, 23, 320, 69.86, 2.0, 168),
    "test_regnet": partial(RegNet, 4, 16, 16.0, 2.0, 8, 0.25, num_classes=10),
}
