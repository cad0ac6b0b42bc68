"""What several twins build their blocks of; flaxzoo/layers gives the references."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F


class StochasticDepth(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device) >= self.p
        return x * keep / (1 - self.p) if self.p < 1 else torch.zeros_like(x)


class SqueezeExcitation(nn.Module):
    def __init__(self, features, squeezed, activation=F.relu, gate=torch.sigmoid):
        super().__init__()
        self.fc1 = nn.Conv2d(features, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, features, 1)
        self.activation = activation
        self.gate = gate

    def forward(self, x):
        means = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.fc2(self.activation(self.fc1(means))))


def make_divisible(value, divisor=8):
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def centred(x):
    mean = torch.tensor((0.485, 0.456, 0.406), dtype=x.dtype, device=x.device)
    std = torch.tensor((0.229, 0.224, 0.225), dtype=x.dtype, device=x.device)
    return x * (std / 0.5)[:, None, None] + ((mean - 0.5) / 0.5)[:, None, None]


class Mlp(nn.Module):
    def __init__(self, features, hidden):
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.fc2 = nn.Linear(hidden, features)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class PatchEmbedding(nn.Module):
    def __init__(self, in_channels, width, patch_size):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch_size, patch_size)
        std = 1 / math.sqrt(in_channels * patch_size**2) / 0.87962566103423978
        weight, bias = self.proj.parameters()
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(bias)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class PatchClassifier(nn.Module):
    block: Callable[..., nn.Module]
    make_norm: Callable[[int], nn.Module]

    def __init__(
        self, patch_size, depth, width, num_classes=1000, in_channels=3, image_size=224,
        dropout=0.0, stochastic_depth=0.0, **block_options,
    ):  # fmt: skip
        super().__init__()
        height, breadth = (image_size,) * 2 if isinstance(image_size, int) else image_size
        patches = (height // patch_size) * (breadth // patch_size)
        block = partial(type(self).block, width, patches, stochastic_depth, **block_options)
        self.stem = PatchEmbedding(in_channels, width, patch_size)
        self.blocks = nn.Sequential(*(block() for _ in range(depth)))
        self.norm = type(self).make_norm(width)
        self.head_drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.norm(self.blocks(self.stem(x)))
        return self.head(self.head_drop(x.mean(1)))
