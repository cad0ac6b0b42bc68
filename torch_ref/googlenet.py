"""PyTorch twins of flaxzoo/models/googlenet.py, which gives the references."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import centred

INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
POOLS_BEFORE = {"inception3a": 3, "inception4a": 3, "inception5a": 2}


def _scaled(channels, width):
    return max(1, round(channels * width))


class BasicConv2d(nn.Module):
    def __init__(self, in_features, out_features, kernel_size, stride=1):
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_features, out_features, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_features, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, in_features, widths):
        super().__init__()
        one, reduced3, three, reduced5, five, projected = widths
        self.branch1 = BasicConv2d(in_features, one, 1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_features, reduced3, 1), BasicConv2d(reduced3, three, 3)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_features, reduced5, 1), BasicConv2d(reduced5, five, 3)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), BasicConv2d(in_features, projected, 1)
        )
        self.out_features = one + three + five + projected

    def forward(self, x):
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], 1)


class InceptionAux(nn.Module):
    def __init__(self, in_features, widths, num_classes, dropout):
        super().__init__()
        convolved, hidden = widths
        self.conv = BasicConv2d(in_features, convolved, 1)
        self.fc1 = nn.Linear(4 * 4 * convolved, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    def __init__(
        self, blocks, num_classes=1000, in_channels=3, stem="imagenet", aux_logits=True,
        transform_input=False, width=1.0, dropout=0.2, dropout_aux=0.7,
    ):  # fmt: skip
        super().__init__()
        self.blocks = blocks
        self.aux_logits = aux_logits
        self.transform_input = transform_input
        first, last, conv_aux, fc_aux = (_scaled(n, width) for n in (64, 192, 128, 1024))
        kernel_size, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = BasicConv2d(in_channels, first, kernel_size, stride)
        pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool1 = pool if stem == "imagenet" else nn.Identity()
        self.conv2 = BasicConv2d(first, first, 1)
        self.conv3 = BasicConv2d(first, last, 3)
        features, features_of = last, {}
        for name in blocks:
            block = Inception(features, tuple(_scaled(n, width) for n in INCEPTIONS[name]))
            features = features_of[name] = block.out_features
            setattr(self, name, block)
        if aux_logits:
            widths = conv_aux, fc_aux
            self.aux1 = InceptionAux(features_of["inception4a"], widths, num_classes, dropout_aux)
            self.aux2 = InceptionAux(features_of["inception4d"], widths, num_classes, dropout_aux)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-2, b=2)

    def forward(self, x):
        if self.transform_input:
            x = centred(x)
        x = self.conv3(self.conv2(self.maxpool1(self.conv1(x))))
        maps = {}
        for name in self.blocks:
            if name in POOLS_BEFORE:
                x = F.max_pool2d(x, POOLS_BEFORE[name], stride=2, ceil_mode=True)
            x = maps[name] = getattr(self, name)(x)
        logits = self.fc(self.dropout(x.mean((2, 3))))
        if self.training and self.aux_logits:
            return logits, self.aux2(maps["inception4d"]), self.aux1(maps["inception4a"])
        return logits


VARIANTS = {
    "googlenet": partial(GoogLeNet, tuple(INCEPTIONS)),
    "test_googlenet": partial(
        GoogLeNet, ("inception3a", "inception4a", "inception4d", "inception5a"), num_classes=10,
        width=0.125,
    ),
}  # fmt: skip
