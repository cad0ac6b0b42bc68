"""PyTorch twins of flaxzoo/models/vgg.py, which gives the references."""

from functools import partial

from torch import nn


class VGG(nn.Module):
    def __init__(
        self, widths, hidden, depths, norm, num_classes=1000, in_channels=3, dropout=0.5
    ):  # fmt: skip
        super().__init__()
        layers, features = [], in_channels
        for width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(features, width, 3, padding=1))
                layers += [norm(width), nn.ReLU()] if norm else [nn.ReLU()]
                features = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(features * 7 * 7, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.get_parameter("bias"))
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.get_parameter("bias"))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


_vgg = partial(VGG, (64, 128, 256, 512, 512), 4096)

VARIANTS = {
    "vgg11": partial(_vgg, (1, 1, 2, 2, 2), None),
    "vgg13": partial(_vgg, (2, 2, 2, 2, 2), None),
    "vgg16": partial(_vgg, (2, 2, 3, 3, 3), None),
    "vgg19": partial(_vgg, (2, 2, 4, 4, 4), None),
    "vgg11_bn": partial(_vgg, (1, 1, 2, 2, 2), nn.BatchNorm2d),
    "vgg13_bn": partial(_vgg, (2, 2, 2, 2, 2), nn.BatchNorm2d),
    "vgg16_bn": partial(_vgg, (2, 2, 3, 3, 3), nn.BatchNorm2d),
    "vgg19_bn": partial(_vgg, (2, 2, 4, 4, 4), nn.BatchNorm2d),
    "test_vgg": partial(VGG, (8, 16, 16), 128, (1, 2, 1), nn.BatchNorm2d, num_classes=10),
}
