"""PyTorch twins of flaxzoo/models/resnet_v2.py, which gives the references."""

from collections import OrderedDict
from functools import partial

from torch import nn
from torch.nn import functional as F

_conv = partial(nn.Conv2d, bias=False)


class BatchNormReLU(nn.BatchNorm2d):
    def forward(self, input):
        return F.relu(super().forward(input))


class Bottleneck(nn.Module):
    def __init__(self, in_features, out_features, stride, project):
        super().__init__()
        width = out_features // 4
        self.downsample = None
        if project:
            conv = _conv(in_features, out_features, 1, stride)
            self.downsample = nn.Sequential(OrderedDict(conv=conv))
        self.norm1 = BatchNormReLU(in_features)
        self.conv1 = _conv(in_features, width, 1)
        self.norm2 = BatchNormReLU(width)
        self.conv2 = _conv(width, width, 3, stride, padding=1)
        self.norm3 = BatchNormReLU(width)
        self.conv3 = _conv(width, out_features, 1)

    def forward(self, x):
        y = self.norm1(x)
        shortcut = x if self.downsample is None else self.downsample(y)
        y = self.conv2(self.norm2(self.conv1(y)))
        return self.conv3(self.norm3(y)) + shortcut


class ResNetV2(nn.Module):
    def __init__(self, depths, num_classes=1000, in_channels=3, stem="imagenet", planes=64):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        if stem == "imagenet":
            conv = _conv(in_channels, planes, 7, stride=2, padding=3)
            pool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            conv, pool = _conv(in_channels, planes, 3, padding=1), nn.Identity()
        self.stem = nn.Sequential(OrderedDict(conv=conv, pool=pool))
        features, stages = planes, []
        for i, depth in enumerate(depths):
            blocks, width = [], 4 * planes * 2**i
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(Bottleneck(features, width, stride, project=j == 0))
                features = width
            stages.append(nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks))))
        self.stages = nn.Sequential(*stages)
        self.norm = BatchNormReLU(features)
        fc = nn.Conv2d(features, num_classes, 1)
        self.head = nn.Sequential(OrderedDict(fc=fc))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(fc.weight, std=0.01)
        nn.init.zeros_(fc.get_parameter("bias"))

    def forward(self, x):
        x = self.norm(self.stages(self.stem(x)))
        return self.head(x.mean((2, 3), keepdim=True)).flatten(1)


VARIANTS = {
    "resnetv2_50": partial(ResNetV2, (3, 4, 6, 3)),
    "resnetv2_101": partial(ResNetV2, (3, 4, 23, 3)),
    "resnetv2_152": partial(ResNetV2, (3, 8, 36, 3)),
    "test_resnet_v2": partial(ResNetV2, (2, 1), num_classes=10, planes=16),
}
