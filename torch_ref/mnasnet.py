"""PyTorch twins of flaxzoo/models/mnasnet.py, which gives the references."""

from functools import partial

from torch import nn

from torch_ref.blocks import make_divisible

_norm = partial(nn.BatchNorm2d, momentum=1 - 0.9997)


def _conv(in_features, out_features, kernel_size, stride=1, groups=1):
    return nn.Conv2d(
        in_features, out_features, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )


class InvertedResidual(nn.Module):
    def __init__(self, in_features, out_features, kernel_size, stride, expansion):
        super().__init__()
        width = in_features * expansion
        self.layers = nn.Sequential(
            _conv(in_features, width, 1), _norm(width), nn.ReLU(),
            _conv(width, width, kernel_size, stride, width), _norm(width), nn.ReLU(),
            _conv(width, out_features, 1), _norm(out_features),
        )  # fmt: skip
        self.residual = stride == 1 and in_features == out_features

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class MNASNet(nn.Module):
    def __init__(
        self, table, num_classes=1000, in_channels=3, stem="imagenet", width=1.0, version=2,
        dropout=0.2,
    ):  # fmt: skip
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        scale = 1.0 if version == 1 else width
        first, features = make_divisible(32 * scale), make_divisible(16 * scale)
        layers = [
            _conv(in_channels, first, 3, 2 if stem == "imagenet" else 1), _norm(first), nn.ReLU(),
            _conv(first, first, 3, groups=first), _norm(first), nn.ReLU(),
            _conv(first, features, 1), _norm(features),
        ]  # fmt: skip
        for planes, kernel_size, stride, expansion, depth in table:
            out_features = make_divisible(planes * width)
            blocks = [InvertedResidual(features, out_features, kernel_size, stride, expansion)]
            features = out_features
            for _ in range(depth - 1):
                blocks.append(InvertedResidual(features, features, kernel_size, 1, expansion))
            layers.append(nn.Sequential(*blocks))
        layers += [_conv(features, 1280, 1), _norm(1280), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, mode="fan_out", nonlinearity="sigmoid")
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.layers(x).mean((2, 3)))


_TABLE = (  # features, kernel size, stride, expansion, depth
    (24, 3, 2, 3, 3),
    (40, 5, 2, 3, 3),
    (80, 5, 2, 6, 3),
    (96, 3, 1, 6, 2),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)

VARIANTS = {
    "mnasnet0_5": partial(MNASNet, _TABLE, width=0.5),
    "mnasnet0_75": partial(MNASNet, _TABLE, width=0.75),
    "mnasnet1_0": partial(MNASNet, _TABLE),
    "mnasnet1_3": partial(MNASNet, _TABLE, width=1.3),
    "test_mnasnet": partial(
        MNASNet, ((32, 3, 2, 3, 2), (48, 5, 2, 6, 1), (64, 3, 1, 6, 1)), num_classes=10, width=0.5
    ),
}
