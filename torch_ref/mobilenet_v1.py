"""PyTorch twins of flaxzoo/models/mobilenet_v1.py, which gives the references."""

import math
from functools import partial

from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import make_divisible


class BatchNormReLU6(nn.BatchNorm2d):
    def forward(self, x):
        return F.relu6(super().forward(x))


class SeparableConv(nn.Module):
    def __init__(self, in_features, out_features, stride=1):
        super().__init__()
        self.conv_dw = nn.Conv2d(
            in_features, in_features, 3, stride, padding=1, groups=in_features, bias=False
        )
        self.bn1 = BatchNormReLU6(in_features)
        self.conv_pw = nn.Conv2d(in_features, out_features, 1, bias=False)
        self.bn2 = BatchNormReLU6(out_features)

    def forward(self, x):
        return self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))


class MobileNetV1(nn.Module):
    def __init__(self, depths, num_classes=1000, in_channels=3, stem="imagenet", width=1.0):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        features = make_divisible(32 * width)
        stride = 2 if stem == "imagenet" else 1
        self.conv_stem = nn.Conv2d(in_channels, features, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNormReLU6(features)
        stages = []
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                out_features = make_divisible(64 * 2**i * width)
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(SeparableConv(features, out_features, stride))
                features = out_features
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
        bound = 1 / math.sqrt(num_classes)
        nn.init.uniform_(self.classifier.weight, -bound, bound)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x):
        x = self.blocks(self.bn1(self.conv_stem(x)))
        return self.classifier(x.mean((2, 3)))


_DEPTHS = (1, 2, 2, 6, 2)

VARIANTS = {
    "mobilenetv1_025": partial(MobileNetV1, _DEPTHS, width=0.25),
    "mobilenetv1_050": partial(MobileNetV1, _DEPTHS, width=0.5),
    "mobilenetv1_075": partial(MobileNetV1, _DEPTHS, width=0.75),
    "mobilenetv1_100": partial(MobileNetV1, _DEPTHS),
    "mobilenetv1_125": partial(MobileNetV1, _DEPTHS, width=1.25),
    "test_mobilenet_v1": partial(MobileNetV1, (1, 2, 2), num_classes=10, width=0.25),
}
