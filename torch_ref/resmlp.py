"""PyTorch twins of flaxzoo/models/resmlp.py, which gives the references."""

from functools import partial

import torch
from torch import nn

from torch_ref.blocks import Mlp, PatchClassifier, StochasticDepth


class Affine(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, features))
        self.beta = nn.Parameter(torch.zeros(1, 1, features))

    def forward(self, x):
        return x * self.alpha + self.beta


class ResMlpBlock(nn.Module):
    def __init__(self, width, tokens, stochastic_depth, scale):
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


class ResMlp(PatchClassifier):
    block = ResMlpBlock
    make_norm = Affine


VARIANTS = {
    "resmlp_12_224": partial(ResMlp, 16, 12, 384, scale=1e-4),
    "resmlp_24_224": partial(ResMlp, 16, 24, 384, scale=1e-5),
    "resmlp_36_224": partial(ResMlp, 16, 36, 384, scale=1e-6),
    "resmlp_big_24_224": partial(ResMlp, 8, 24, 768, scale=1e-6),
    "test_resmlp": partial(ResMlp, 8, 2, 32, scale=1e-4, num_classes=10, image_size=32),
}
