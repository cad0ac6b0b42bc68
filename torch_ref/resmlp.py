"""PyTorch twins of flaxzoo/models/resmlp.py, which gives the references."""

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


class Affine(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, features))
        self.beta = nn.Parameter(torch.zeros(1, 1, features))

    def forward(self, x):
        return x * self.alpha + self.beta


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


class ResMlpBlock(nn.Module):
    def __init__(self, width, tokens, scale, stochastic_depth=0.0):
        super().__init__()
        self.norm1 = Affine(width)
        self.linear_tokens = nn.Linear(tokens, tokens)
        nn.init.xavier_uniform_(self.linear_tokens.weight)
        nn.init.zeros_(self.linear_tokens.bias)
        self.norm2 = Affine(width)
        self.mlp_channels = Mlp(width, 4 * width)
        self.ls1 = nn.Parameter(torch.full((width,), scale))
        self.ls2 = nn.Parameter(torch.full((width,), scale))
        self.drop_path = StochasticDepth(stochastic_depth)

    def forward(self, x):
        mixed = self.linear_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.drop_path(self.ls1 * mixed)
        return x + self.drop_path(self.ls2 * self.mlp_channels(self.norm2(x)))


class ResMlp(nn.Module):
    def __init__(
        self, patch_size, depth, width, scale, num_classes=1000, in_channels=3, image_size=224,
        dropout=0.0, stochastic_depth=0.0,
    ):  # fmt: skip
        super().__init__()
        height, breadth = (image_size,) * 2 if isinstance(image_size, int) else image_size
        tokens = (height // patch_size) * (breadth // patch_size)
        self.stem = PatchEmbedding(in_channels, width, patch_size)
        self.blocks = nn.Sequential(
            *(ResMlpBlock(width, tokens, scale, stochastic_depth) for _ in range(depth))
        )
        self.norm = Affine(width)
        self.head_drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.norm(self.blocks(self.stem(x)))
        return self.head(self.head_drop(x.mean(1)))


VARIANTS = {
    "resmlp_12_224": partial(ResMlp, 16, 12, 384, 1e-4),
    "resmlp_24_224": partial(ResMlp, 16, 24, 384, 1e-5),
    "resmlp_36_224": partial(ResMlp, 16, 36, 384, 1e-6),
    "resmlp_big_24_224": partial(ResMlp, 8, 24, 768, 1e-6),
    "test_resmlp": partial(ResMlp, 8, 2, 32, 1e-4, num_classes=10, image_size=32),
}
