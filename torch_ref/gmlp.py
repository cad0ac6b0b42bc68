"""PyTorch twins of flaxzoo/models/gmlp.py, which gives the references."""

import math
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


class SpatialGatingUnit(nn.Module):
    def __init__(self, features, tokens):
        super().__init__()
        self.norm = nn.LayerNorm(features // 2, eps=1e-5)
        self.proj = nn.Linear(tokens, tokens)
        nn.init.normal_(self.proj.weight, std=1e-6)
        nn.init.ones_(self.proj.bias)

    def forward(self, x):
        passed, gate = x.chunk(2, dim=-1)
        return passed * self.proj(self.norm(gate).transpose(1, 2)).transpose(1, 2)


class GatedMlp(nn.Module):
    def __init__(self, features, hidden, tokens):
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.gate = SpatialGatingUnit(hidden, tokens)
        self.fc2 = nn.Linear(hidden // 2, features)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x):
        return self.fc2(self.gate(F.gelu(self.fc1(x))))


class GmlpBlock(nn.Module):
    def __init__(self, width, tokens, stochastic_depth=0.0):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp_channels = GatedMlp(width, 6 * width, tokens)
        self.drop_path = StochasticDepth(stochastic_depth)

    def forward(self, x):
        return x + self.drop_path(self.mlp_channels(self.norm(x)))


class Gmlp(nn.Module):
    def __init__(
        self, patch_size, depth, width, num_classes=1000, in_channels=3, image_size=224,
        dropout=0.0, stochastic_depth=0.0,
    ):  # fmt: skip
        super().__init__()
        height, breadth = (image_size,) * 2 if isinstance(image_size, int) else image_size
        tokens = (height // patch_size) * (breadth // patch_size)
        self.stem = PatchEmbedding(in_channels, width, patch_size)
        self.blocks = nn.Sequential(
            *(GmlpBlock(width, tokens, stochastic_depth) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head_drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.norm(self.blocks(self.stem(x)))
        return self.head(self.head_drop(x.mean(1)))


VARIANTS = {
    "gmlp_ti16_224": partial(Gmlp, 16, 30, 128),
    "gmlp_s16_224": partial(Gmlp, 16, 30, 256),
    "gmlp_b16_224": partial(Gmlp, 16, 30, 512),
    "test_gmlp": partial(Gmlp, 8, 2, 32, num_classes=10, image_size=32),
}
