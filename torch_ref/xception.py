"""PyTorch twins of flaxzoo/models/xception.py, which gives the references."""

from functools import partial

from torch import nn
from torch.nn import functional as F

_conv = partial(nn.Conv2d, bias=False)


class SeparableConv(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.conv1 = _conv(in_features, in_features, 3, padding=1, groups=in_features)
        self.pointwise = _conv(in_features, out_features, 1)

    def forward(self, x):
        return self.pointwise(self.conv1(x))


class Block(nn.Module):
    def __init__(self, in_features, widths, shrink, starts_with_relu=True):
        super().__init__()
        layers, features = [], in_features
        for width in widths:
            layers += [nn.ReLU(), SeparableConv(features, width), nn.BatchNorm2d(width)]
            features = width
        self.skip = None
        if shrink:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            self.skip = _conv(in_features, features, 1, stride=2)
            self.skipbn = nn.BatchNorm2d(features)
        self.rep = nn.Sequential(*layers[0 if starts_with_relu else 1 :])

    def forward(self, x):
        shortcut = x if self.skip is None else self.skipbn(self.skip(x))
        return self.rep(x) + shortcut


class Xception(nn.Module):
    def __init__(
        self, widths, middle, num_classes=1000, in_channels=3, stem="imagenet", dropout=0.0
    ):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        stride, padding = (2, 0) if stem == "imagenet" else (1, 1)
        (a, b), entry, (c, d, e) = widths
        self.conv1 = _conv(in_channels, a, 3, stride, padding)
        self.bn1 = nn.BatchNorm2d(a)
        self.conv2 = _conv(a, b, 3, 1, padding)
        self.bn2 = nn.BatchNorm2d(b)
        self.act2 = nn.ReLU()
        features, blocks = b, []
        for width in entry:
            blocks.append(Block(features, (width, width), True, starts_with_relu=bool(blocks)))
            features = width
        blocks += [Block(features, (features,) * 3, shrink=False) for _ in range(middle)]
        blocks.append(Block(features, (features, c), shrink=True))
        self.block_names = [f"block{i}" for i in range(1, len(blocks) + 1)]
        for name, block in zip(self.block_names, blocks, strict=True):
            setattr(self, name, block)
        self.conv3 = SeparableConv(c, d)
        self.bn3 = nn.BatchNorm2d(d)
        self.conv4 = SeparableConv(d, e)
        self.bn4 = nn.BatchNorm2d(e)
        self.act4 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(e, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        for name in self.block_names:
            x = getattr(self, name)(x)
        x = F.relu(self.bn3(self.conv3(x)))
        x = self.act4(self.bn4(self.conv4(x)))
        return self.fc(self.dropout(x.mean((2, 3))))


VARIANTS = {
    "xception": partial(Xception, ((32, 64), (128, 256, 728), (1024, 1536, 2048)), 8),
    "test_xception": partial(Xception, ((8, 16), (16, 24, 32), (40, 48, 56)), 1, num_classes=10),
}
