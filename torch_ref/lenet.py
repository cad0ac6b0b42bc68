"""PyTorch twins of flaxzoo/models/lenet.py, which gives the references."""

from functools import partial

from torch import nn


class LeNet(nn.Module):
    def __init__(self, num_classes=10, in_channels=3, image_size=28):
        super().__init__()
        sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
        height, width = (((side - 4) // 2 - 4) // 2 for side in sides)
        conv = partial(nn.Conv2d, kernel_size=5, bias=False)
        linear = partial(nn.Linear, bias=False)
        self.features = nn.Sequential(
            conv(in_channels, 6), nn.BatchNorm2d(6), nn.Sigmoid(), nn.AvgPool2d(2),
            conv(6, 16), nn.BatchNorm2d(16), nn.Sigmoid(), nn.AvgPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            linear(16 * height * width, 120), nn.BatchNorm1d(120), nn.Sigmoid(),
            linear(120, 84), nn.BatchNorm1d(84), nn.Sigmoid(),
            linear(84, num_classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class ConvNet(nn.Module):
    def __init__(self, num_classes=10, in_channels=3, image_size=28):
        super().__init__()
        sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
        height, width = (side // 4 for side in sides)
        conv = partial(nn.Conv2d, kernel_size=5, padding=2)
        self.features = nn.Sequential(
            conv(in_channels, 16), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            conv(16, 32), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(32 * height * width, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


VARIANTS = {
    "lenet5_bn": partial(LeNet),
    "convnet_bn": partial(ConvNet),
    "test_lenet": partial(LeNet, image_size=32),
}
