"""PyTorch twins of flaxzoo/models/inception.py, which gives the references."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import centred


class BasicConv2d(nn.Module):
    def __init__(
        self, in_features, out_features, kernel_size, stride=1, padding: int | str = "same"
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_features, out_features, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_features, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def _avg_pool(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1)


class InceptionA(nn.Module):
    def __init__(self, features, scale, pool_features):
        super().__init__()
        self.branch1x1 = BasicConv2d(features, scale(64), 1)
        self.branch5x5_1 = BasicConv2d(features, scale(48), 1)
        self.branch5x5_2 = BasicConv2d(scale(48), scale(64), 5)
        self.branch3x3dbl_1 = BasicConv2d(features, scale(64), 1)
        self.branch3x3dbl_2 = BasicConv2d(scale(64), scale(96), 3)
        self.branch3x3dbl_3 = BasicConv2d(scale(96), scale(96), 3)
        self.branch_pool = BasicConv2d(features, scale(pool_features), 1)
        self.out_features = 2 * scale(64) + scale(96) + scale(pool_features)

    def forward(self, x):
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_avg_pool(x))], 1)


class InceptionB(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        self.branch3x3 = BasicConv2d(features, scale(384), 3, 2, padding=0)
        self.branch3x3dbl_1 = BasicConv2d(features, scale(64), 1)
        self.branch3x3dbl_2 = BasicConv2d(scale(64), scale(96), 3)
        self.branch3x3dbl_3 = BasicConv2d(scale(96), scale(96), 3, 2, padding=0)
        self.out_features = scale(384) + scale(96) + features

    def forward(self, x):
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(nn.Module):
    def __init__(self, features, scale, middle):
        super().__init__()
        middle, out = scale(middle), scale(192)
        self.branch1x1 = BasicConv2d(features, out, 1)
        self.branch7x7_1 = BasicConv2d(features, middle, 1)
        self.branch7x7_2 = BasicConv2d(middle, middle, (1, 7))
        self.branch7x7_3 = BasicConv2d(middle, out, (7, 1))
        self.branch7x7dbl_1 = BasicConv2d(features, middle, 1)
        self.branch7x7dbl_2 = BasicConv2d(middle, middle, (7, 1))
        self.branch7x7dbl_3 = BasicConv2d(middle, middle, (1, 7))
        self.branch7x7dbl_4 = BasicConv2d(middle, middle, (7, 1))
        self.branch7x7dbl_5 = BasicConv2d(middle, out, (1, 7))
        self.branch_pool = BasicConv2d(features, out, 1)
        self.out_features = 4 * out

    def forward(self, x):
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_avg_pool(x))], 1)


class InceptionD(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        middle, out = scale(192), scale(320)
        self.branch3x3_1 = BasicConv2d(features, middle, 1)
        self.branch3x3_2 = BasicConv2d(middle, out, 3, 2, padding=0)
        self.branch7x7x3_1 = BasicConv2d(features, middle, 1)
        self.branch7x7x3_2 = BasicConv2d(middle, middle, (1, 7))
        self.branch7x7x3_3 = BasicConv2d(middle, middle, (7, 1))
        self.branch7x7x3_4 = BasicConv2d(middle, middle, 3, 2, padding=0)
        self.out_features = out + middle + features

    def forward(self, x):
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        middle = scale(384)
        self.branch1x1 = BasicConv2d(features, scale(320), 1)
        self.branch3x3_1 = BasicConv2d(features, middle, 1)
        self.branch3x3_2a = BasicConv2d(middle, middle, (1, 3))
        self.branch3x3_2b = BasicConv2d(middle, middle, (3, 1))
        self.branch3x3dbl_1 = BasicConv2d(features, scale(448), 1)
        self.branch3x3dbl_2 = BasicConv2d(scale(448), middle, 3)
        self.branch3x3dbl_3a = BasicConv2d(middle, middle, (1, 3))
        self.branch3x3dbl_3b = BasicConv2d(middle, middle, (3, 1))
        self.branch_pool = BasicConv2d(features, scale(192), 1)
        self.out_features = scale(320) + 4 * middle + scale(192)

    def forward(self, x):
        single = self.branch3x3_1(x)
        single = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        double = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *single, *double, self.branch_pool(_avg_pool(x))], 1)


class InceptionAux(nn.Module):
    def __init__(self, features, scale, num_classes):
        super().__init__()
        self.conv0 = BasicConv2d(features, scale(128), 1)
        self.conv1 = BasicConv2d(scale(128), scale(768), 5, padding=0)
        self.fc = nn.Linear(scale(768), num_classes)

    def forward(self, x):
        x = self.conv1(self.conv0(F.avg_pool2d(x, 5, stride=3)))
        return self.fc(x.mean((2, 3)))


BLOCKS = {
    "Mixed_5b": (InceptionA, 32),
    "Mixed_5c": (InceptionA, 64),
    "Mixed_5d": (InceptionA, 64),
    "Mixed_6a": (InceptionB,),
    "Mixed_6b": (InceptionC, 128),
    "Mixed_6c": (InceptionC, 160),
    "Mixed_6d": (InceptionC, 160),
    "Mixed_6e": (InceptionC, 192),
    "Mixed_7a": (InceptionD,),
    "Mixed_7b": (InceptionE,),
    "Mixed_7c": (InceptionE,),
}


class Inception3(nn.Module):
    def __init__(
        self, blocks, num_classes=1000, in_channels=3, stem="imagenet", aux_logits=True,
        transform_input=False, width=1.0, dropout=0.5,
    ):  # fmt: skip
        super().__init__()

        def scale(channels):
            return max(1, round(channels * width))

        self.blocks = blocks
        self.transform_input = transform_input
        stride, padding = (2, 0) if stem == "imagenet" else (1, 1)
        self.Conv2d_1a_3x3 = BasicConv2d(in_channels, scale(32), 3, stride, padding)
        self.Conv2d_2a_3x3 = BasicConv2d(scale(32), scale(32), 3, padding=0)
        self.Conv2d_2b_3x3 = BasicConv2d(scale(32), scale(64), 3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2) if stem == "imagenet" else nn.Identity()
        self.Conv2d_3b_1x1 = BasicConv2d(scale(64), scale(80), 1)
        self.Conv2d_4a_3x3 = BasicConv2d(scale(80), scale(192), 3, padding=0)
        self.maxpool2 = nn.MaxPool2d(3, stride=2)
        features = scale(192)
        self.AuxLogits = None
        for name in blocks:
            kind, *sizes = BLOCKS[name]
            block = kind(features, scale, *sizes)
            features = block.out_features
            setattr(self, name, block)
            if name == "Mixed_6e" and aux_logits:
                self.AuxLogits = InceptionAux(features, scale, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(features, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                std = 0.001 if name == "AuxLogits.fc" else 0.1
                nn.init.trunc_normal_(module.weight, std=std, a=-2, b=2)

    def forward(self, x):
        if self.transform_input:
            x = centred(x)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(x)))
        x = self.maxpool2(x)
        maps = {}
        for name in self.blocks:
            x = maps[name] = getattr(self, name)(x)
        logits = self.fc(self.dropout(x.mean((2, 3))))
        if self.training and self.AuxLogits is not None:
            return logits, self.AuxLogits(maps["Mixed_6e"])
        return logits


VARIANTS = {
    "inception_v3": partial(Inception3, tuple(BLOCKS)),
    "test_inception": partial(
        Inception3, ("Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7a", "Mixed_7c"), num_classes=10,
        width=1 / 16, stem="cifar",
    ),
}  # fmt: skip
