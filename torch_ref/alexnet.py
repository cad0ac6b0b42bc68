"""PyTorch twins of flaxzoo/models/alexnet.py, which gives the references."""

from functools import partial

from torch import nn


class AlexNet(nn.Module):
    def __init__(self, widths, hidden, num_classes=1000, in_channels=3, dropout=0.5):
        super().__init__()
        width1, width2, width3, width4, width5 = widths
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width1, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(width1, width2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(width2, width3, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width3, width4, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width4, width5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width5 * 6 * 6, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


VARIANTS = {
    "alexnet": partial(AlexNet, (64, 192, 384, 256, 256), 4096),
    "test_alexnet": partial(AlexNet, (8, 16, 24, 16, 8), 32, num_classes=10),
}
