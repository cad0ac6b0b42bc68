"""PyTorch twins of flaxzoo/models/nin.py, which gives the references."""

from functools import partial

from torch import nn

_POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


class NiN(nn.Module):
    def __init__(self, layout, num_classes=1000, in_channels=3, dropout=0.5):
        super().__init__()
        layers, features = [], in_channels
        for part in layout:
            if part == "dropout":
                layers.append(nn.Dropout(dropout))
            elif part in _POOLS:
                layers.append(_POOLS[part](3, 2, ceil_mode=True))
            else:
                kernel_size, stride, padding, widths = part
                for width in widths:
                    layers += [nn.Conv2d(features, width, kernel_size, stride, padding), nn.ReLU()]
                    features, kernel_size, stride, padding = width, 1, 1, 0
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(features, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.get_parameter("bias"))

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


_IMAGENET = (
    (11, 4, 0, (96, 96, 96)), "max",
    (5, 1, 2, (256, 256, 256)), "max",
    (3, 1, 1, (384, 384, 384)), "max", "dropout",
    (3, 1, 1, (1024, 1024)),
)  # fmt: skip
_CIFAR10 = (
    (5, 1, 2, (192, 160, 96)), "max", "dropout",
    (5, 1, 2, (192, 192, 192)), "avg", "dropout",
    (3, 1, 1, (192, 192)),
)  # fmt: skip
_TEST = (
    (7, 2, 0, (16, 12, 8)), "max", "dropout", (5, 1, 2, (16, 16, 16)), "avg", (3, 1, 1, (16, 16))
)  # fmt: skip

VARIANTS = {
    "nin_imagenet": partial(NiN, _IMAGENET),
    "nin_cifar10": partial(NiN, _CIFAR10, num_classes=10),
    "test_nin": partial(NiN, _TEST, num_classes=10),
}
