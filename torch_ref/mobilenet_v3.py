"""PyTorch twins of flaxzoo/models/mobilenet_v3.py, which gives the references."""

from functools import partial

from torch import nn
from torch.nn import Hardswish, ReLU
from torch.nn import functional as F

from torch_ref.blocks import SqueezeExcitation, make_divisible


def _conv_norm(in_features, out_features, kernel_size, stride=1, groups=1, activation=None):
    return nn.Sequential(
        nn.Conv2d(
            in_features, out_features, kernel_size, stride, kernel_size // 2,
            groups=groups, bias=False,
        ),
        nn.BatchNorm2d(out_features, eps=1e-3, momentum=0.01),
        *([activation()] if activation else []),
    )  # fmt: skip


def _hardsigmoid(x):
    # Not F.hardsigmoid: its gradient has 1/6 in float32, off by 3e-8, even in float64.
    return F.relu6(x + 3) / 6


class InvertedResidual(nn.Module):
    def __init__(self, in_features, kernel_size, width, out_features, gate, activation, stride):
        super().__init__()
        layers = []
        if width != in_features:
            layers.append(_conv_norm(in_features, width, 1, activation=activation))
        layers.append(_conv_norm(width, width, kernel_size, stride, width, activation))
        if gate:
            layers.append(SqueezeExcitation(width, make_divisible(width // 4), gate=_hardsigmoid))
        layers.append(_conv_norm(width, out_features, 1))
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and in_features == out_features

    def forward(self, x):
        return x + self.block(x) if self.residual else self.block(x)


class MobileNetV3(nn.Module):
    def __init__(
        self, table, hidden, num_classes=1000, in_channels=3, stem="imagenet", width=1.0,
        dropout=0.2,
    ):  # fmt: skip
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        features, hidden = make_divisible(16 * width), make_divisible(hidden * width)
        stride = 2 if stem == "imagenet" else 1
        layers: list[nn.Module] = [_conv_norm(in_channels, features, 3, stride, 1, Hardswish)]
        for kernel_size, expanded, planes, *rest in table:
            expanded, planes = make_divisible(expanded * width), make_divisible(planes * width)
            layers.append(InvertedResidual(features, kernel_size, expanded, planes, *rest))
            features = planes
        layers.append(_conv_norm(features, 6 * features, 1, activation=Hardswish))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(6 * features, hidden),
            Hardswish(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


# kernel size, expanded width, features, gate, activation, stride
_LARGE = (
    (3, 16, 16, False, ReLU, 1),
    (3, 64, 24, False, ReLU, 2),
    (3, 72, 24, False, ReLU, 1),
    (5, 72, 40, True, ReLU, 2),
    (5, 120, 40, True, ReLU, 1),
    (5, 120, 40, True, ReLU, 1),
    (3, 240, 80, False, Hardswish, 2),
    (3, 200, 80, False, Hardswish, 1),
    (3, 184, 80, False, Hardswish, 1),
    (3, 184, 80, False, Hardswish, 1),
    (3, 480, 112, True, Hardswish, 1),
    (3, 672, 112, True, Hardswish, 1),
    (5, 672, 160, True, Hardswish, 2),
    (5, 960, 160, True, Hardswish, 1),
    (5, 960, 160, True, Hardswish, 1),
)
_SMALL = (
    (3, 16, 16, True, ReLU, 2),
    (3, 72, 24, False, ReLU, 2),
    (3, 88, 24, False, ReLU, 1),
    (5, 96, 40, True, Hardswish, 2),
    (5, 240, 40, True, Hardswish, 1),
    (5, 240, 40, True, Hardswish, 1),
    (5, 120, 48, True, Hardswish, 1),
    (5, 144, 48, True, Hardswish, 1),
    (5, 288, 96, True, Hardswish, 2),
    (5, 576, 96, True, Hardswish, 1),
    (5, 576, 96, True, Hardswish, 1),
)
_TINY = (
    (3, 16, 16, True, ReLU, 1),
    (3, 48, 24, False, ReLU, 2),
    (5, 72, 24, True, Hardswish, 1),
    (3, 48, 40, False, Hardswish, 2),
)

VARIANTS = {
    "mobilenet_v3_large": partial(MobileNetV3, _LARGE, 1280),
    "mobilenet_v3_small": partial(MobileNetV3, _SMALL, 1024),
    "test_mobilenet_v3": partial(MobileNetV3, _TINY, 64, num_classes=10),
}
