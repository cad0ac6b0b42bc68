"""PyTorch twin of flaxzoo/models/efficientnet.py, which gives the references."""

import math
from functools import partial

from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import SqueezeExcitation, StochasticDepth


def _conv_norm(in_features, out_features, kernel_size, stride=1, groups=1, *, norm, activate=True):
    conv = nn.Conv2d(
        in_features, out_features, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, norm(out_features), *([nn.SiLU()] if activate else []))


class MBConv(nn.Module):
    def __init__(self, in_features, out_features, expansion, kernel_size, stride, drop_rate, norm):
        super().__init__()
        layers = self.layers(in_features, out_features, expansion, kernel_size, stride, norm)
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and in_features == out_features
        self.stochastic_depth = StochasticDepth(drop_rate)

    @staticmethod
    def layers(in_features, out_features, expansion, kernel_size, stride, norm):
        width = in_features * expansion
        if expansion > 1:
            yield _conv_norm(in_features, width, 1, norm=norm)
        yield _conv_norm(width, width, kernel_size, stride, groups=width, norm=norm)
        yield SqueezeExcitation(width, max(1, in_features // 4), F.silu)
        yield _conv_norm(width, out_features, 1, norm=norm, activate=False)

    def forward(self, x):
        y = self.block(x)
        return x + self.stochastic_depth(y) if self.residual else y


class FusedMBConv(MBConv):
    @staticmethod
    def layers(in_features, out_features, expansion, kernel_size, stride, norm):
        width = in_features * expansion if expansion > 1 else out_features
        yield _conv_norm(in_features, width, kernel_size, stride, norm=norm)
        if expansion > 1:
            yield _conv_norm(width, out_features, 1, norm=norm, activate=False)


class EfficientNet(nn.Module):
    def __init__(
        self, table, stem_features, last_features, norm, num_classes=1000, in_channels=3,
        stem="imagenet", dropout=0.2, stochastic_depth=0.2,
    ):  # fmt: skip
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        stride = 2 if stem == "imagenet" else 1
        layers = [_conv_norm(in_channels, stem_features, 3, stride, norm=norm)]
        features, count, total = stem_features, 0, sum(row[-1] for row in table)
        for block, expansion, kernel_size, stride, out_features, depth in table:
            blocks = []
            for _ in range(depth):
                drop_rate = stochastic_depth * count / total
                blocks.append(
                    block(features, out_features, expansion, kernel_size, stride, drop_rate, norm)
                )
                features, stride = out_features, 1
                count += 1
            layers.append(nn.Sequential(*blocks))
        layers.append(_conv_norm(features, last_features, 1, norm=norm))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last_features, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(num_classes)
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


_B0 = (
    (MBConv, 1, 3, 1, 16, 1),
    (MBConv, 6, 3, 2, 24, 2),
    (MBConv, 6, 5, 2, 40, 2),
    (MBConv, 6, 3, 2, 80, 3),
    (MBConv, 6, 5, 1, 112, 3),
    (MBConv, 6, 5, 2, 192, 4),
    (MBConv, 6, 3, 1, 320, 1),
)


def _channels(value):
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def _scaled(width, depth, eps, momentum, dropout):
    table = tuple((*row, _channels(n * width), math.ceil(d * depth)) for *row, n, d in _B0)
    norm = partial(nn.BatchNorm2d, eps=eps, momentum=momentum)
    last_features = 4 * _channels(320 * width)
    return partial(EfficientNet, table, _channels(32 * width), last_features, norm, dropout=dropout)


def _v2(stem_features, *rows, dropout):
    table = tuple((block, expansion, 3, *rest) for block, expansion, *rest in rows)
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    return partial(EfficientNet, table, stem_features, 1280, norm, dropout=dropout)


VARIANTS = {
    "efficientnet_b0": _scaled(1.0, 1.0, 1e-5, 0.1, 0.2),
    "efficientnet_b1": _scaled(1.0, 1.1, 1e-5, 0.1, 0.2),
    "efficientnet_b2": _scaled(1.1, 1.2, 1e-5, 0.1, 0.3),
    "efficientnet_b3": _scaled(1.2, 1.4, 1e-5, 0.1, 0.3),
    "efficientnet_b4": _scaled(1.4, 1.8, 1e-5, 0.1, 0.4),
    "efficientnet_b5": _scaled(1.6, 2.2, 1e-3, 0.01, 0.4),
    "efficientnet_b6": _scaled(1.8, 2.6, 1e-3, 0.01, 0.5),
    "efficientnet_b7": _scaled(2.0, 3.1, 1e-3, 0.01, 0.5),
    "efficientnet_v2_s": _v2(
        24,
        (FusedMBConv, 1, 1, 24, 2),
        (FusedMBConv, 4, 2, 48, 4),
        (FusedMBConv, 4, 2, 64, 4),
        (MBConv, 4, 2, 128, 6),
        (MBConv, 6, 1, 160, 9),
        (MBConv, 6, 2, 256, 15),
        dropout=0.2,
    ),
    "efficientnet_v2_m": _v2(
        24,
        (FusedMBConv, 1, 1, 24, 3),
        (FusedMBConv, 4, 2, 48, 5),
        (FusedMBConv, 4, 2, 80, 5),
        (MBConv, 4, 2, 160, 7),
        (MBConv, 6, 1, 176, 14),
        (MBConv, 6, 2, 304, 18),
        (MBConv, 6, 1, 512, 5),
        dropout=0.3,
    ),
    "efficientnet_v2_l": _v2(
        32,
        (FusedMBConv, 1, 1, 32, 4),
        (FusedMBConv, 4, 2, 64, 7),
        (FusedMBConv, 4, 2, 96, 7),
        (MBConv, 4, 2, 192, 10),
        (MBConv, 6, 1, 224, 19),
        (MBConv, 6, 2, 384, 25),
        (MBConv, 6, 1, 640, 7),
        dropout=0.4,
    ),
    "test_efficientnet": partial(
        EfficientNet,
        (
            (FusedMBConv, 1, 3, 1, 8, 1),
            (FusedMBConv, 4, 3, 2, 16, 2),
            (MBConv, 1, 3, 1, 16, 1),
            (MBConv, 4, 5, 2, 24, 2),
        ),
        8, 64, partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01), num_classes=10,
    ),
}  # fmt: skip
