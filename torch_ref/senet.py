"""PyTorch twins of flaxzoo/models/senet.py, which gives the references."""

from functools import partial

from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import SqueezeExcitation, make_divisible

_conv = partial(nn.Conv2d, bias=False)


def _gate(features):
    return SqueezeExcitation(features, make_divisible(features / 16))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_features, planes, stride=1, **_):
        super().__init__()
        self.conv1 = _conv(in_features, planes, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.se = _gate(planes)
        self.downsample = _projection(in_features, planes, stride)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.se(self.bn2(self.conv2(x))) + shortcut)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_features, planes, stride=1, groups=1, group_width=64):
        super().__init__()
        width = planes * group_width // 64 * groups
        out_features = planes * self.expansion
        self.conv1 = _conv(in_features, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride, padding=1, groups=groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_features, 1)
        self.bn3 = nn.BatchNorm2d(out_features)
        self.se = _gate(out_features)
        self.downsample = _projection(in_features, out_features, stride)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.se(self.bn3(self.conv3(x))) + shortcut)


class SEResNet(nn.Module):
    def __init__(
        self, blocks, depths, num_classes=1000, in_channels=3, stem="imagenet", planes=64, **options
    ):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        if stem == "imagenet":
            self.conv1 = _conv(in_channels, planes, 7, stride=2, padding=3)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = _conv(in_channels, planes, 3, padding=1)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(planes)
        self.act1 = nn.ReLU()
        self.stage_names = []
        features = planes
        for i, (block, depth) in enumerate(zip(blocks, depths, strict=True)):
            layers = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                layers.append(block(features, planes * 2**i, stride, **options))
                features = planes * 2**i * block.expansion
            self.stage_names.append(f"layer{i + 1}")
            setattr(self, self.stage_names[-1], nn.Sequential(*layers))
        self.fc = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, x):
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


def _projection(in_features, out_features, stride):
    if stride == 1 and in_features == out_features:
        return None
    return nn.Sequential(_conv(in_features, out_features, 1, stride), nn.BatchNorm2d(out_features))


_basic = partial(SEResNet, (BasicBlock,) * 4)
_bottleneck = partial(SEResNet, (Bottleneck,) * 4)

VARIANTS = {
    "seresnet18": partial(_basic, (2, 2, 2, 2)),
    "seresnet34": partial(_basic, (3, 4, 6, 3)),
    "seresnet50": partial(_bottleneck, (3, 4, 6, 3)),
    "seresnet101": partial(_bottleneck, (3, 4, 23, 3)),
    "seresnet152": partial(_bottleneck, (3, 8, 36, 3)),
    "seresnext50_32x4d": partial(_bottleneck, (3, 4, 6, 3), groups=32, group_width=4),
    "seresnext101_32x4d": partial(_bottleneck, (3, 4, 23, 3), groups=32, group_width=4),
    "test_senet": partial(
        SEResNet, (BasicBlock, Bottleneck), (2, 1), num_classes=10, planes=16,
        groups=4, group_width=16,
    ),
}  # fmt: skip
