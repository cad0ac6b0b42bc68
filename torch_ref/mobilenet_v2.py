"""PyTorch twins of flaxzoo/models/mobilenet_v2.py, which gives the references."""

from functools import partial

from torch import nn

from torch_ref.blocks import make_divisible


def _conv_norm(in_features, out_features, kernel_size, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(
            in_features, out_features, kernel_size, stride, kernel_size // 2,
            groups=groups, bias=False,
        ),
        nn.BatchNorm2d(out_features),
        nn.ReLU6(),
    )  # fmt: skip


class InvertedResidual(nn.Module):
    def __init__(self, in_features, out_features, stride, expansion):
        super().__init__()
        width = in_features * expansion
        expand = [_conv_norm(in_features, width, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _conv_norm(width, width, 3, stride, groups=width),
            nn.Conv2d(width, out_features, 1, bias=False),
            nn.BatchNorm2d(out_features),
        )
        self.residual = stride == 1 and in_features == out_features

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(
        self, table, num_classes=1000, in_channels=3, stem="imagenet", width=1.0, dropout=0.2
    ):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        features = make_divisible(32 * width)
        last = make_divisible(1280 * max(1.0, width))
        stride = 2 if stem == "imagenet" else 1
        layers: list[nn.Module] = [_conv_norm(in_channels, features, 3, stride)]
        for expansion, planes, depth, stride in table:
            for j in range(depth):
                out_features = make_divisible(planes * width)
                layers.append(
                    InvertedResidual(features, out_features, stride if j == 0 else 1, expansion)
                )
                features = out_features
        layers.append(_conv_norm(features, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


_TABLE = (  # expansion, features, depth, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

VARIANTS = {
    "mobilenet_v2": partial(MobileNetV2, _TABLE),
    "test_mobilenet_v2": partial(
        MobileNetV2, ((1, 32, 1, 1), (6, 64, 2, 2), (3, 96, 1, 1)), num_classes=10, width=0.25
    ),
}
