"""PyTorch twins of flaxzoo/models/vit.py, which gives the references."""

import math
from functools import partial

import torch
from torch import nn

_norm = partial(nn.LayerNorm, eps=1e-6)


def _initialise(layer, std):
    nn.init.trunc_normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)


class EncoderBlock(nn.Module):
    def __init__(self, features, heads, mlp_features, dropout):
        super().__init__()
        self.ln_1 = _norm(features)
        self.self_attention = nn.MultiheadAttention(features, heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = _norm(features)
        first, last = nn.Linear(features, mlp_features), nn.Linear(mlp_features, features)
        for layer in (first, last):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)
        self.mlp = nn.Sequential(first, nn.GELU(), nn.Dropout(dropout), last, nn.Dropout(dropout))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.dropout(self.self_attention(y, y, y, need_weights=False)[0])
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    def __init__(self, tokens, depth, features, heads, mlp_features, dropout):
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, features).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential()
        for i in range(depth):
            block = EncoderBlock(features, heads, mlp_features, dropout)
            self.layers.add_module(f"encoder_layer_{i}", block)
        self.ln = _norm(features)

    def forward(self, x):
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))


class VisionTransformer(nn.Module):
    def __init__(
        self, patch_size, depth, attention_heads, features, mlp_features, num_classes=1000,
        in_channels=3, image_size=224, dropout=0.0, representation_size=None,
    ):  # fmt: skip
        super().__init__()
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.conv_proj = nn.Conv2d(in_channels, features, patch_size, stride=patch_size)
        _initialise(self.conv_proj, std=math.sqrt(1 / (in_channels * patch_size**2)))
        self.class_token = nn.Parameter(torch.zeros(1, 1, features))
        tokens = 1 + (height // patch_size) * (width // patch_size)
        self.encoder = Encoder(tokens, depth, features, attention_heads, mlp_features, dropout)
        self.heads = nn.Sequential()
        if representation_size is not None:
            pre_logits = nn.Linear(features, representation_size)
            _initialise(pre_logits, std=math.sqrt(1 / features))
            self.heads.add_module("pre_logits", pre_logits)
            self.heads.add_module("act", nn.Tanh())
            features = representation_size
        head = nn.Linear(features, num_classes)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.heads.add_module("head", head)

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.heads(self.encoder(x)[:, 0])


VARIANTS = {
    "vit_b_16": partial(VisionTransformer, 16, 12, 12, 768, 3072),
    "vit_b_32": partial(VisionTransformer, 32, 12, 12, 768, 3072),
    "vit_l_16": partial(VisionTransformer, 16, 24, 16, 1024, 4096),
    "vit_l_32": partial(VisionTransformer, 32, 24, 16, 1024, 4096),
    "vit_h_14": partial(VisionTransformer, 14, 32, 16, 1280, 5120),
    "test_vit": partial(VisionTransformer, 8, 2, 2, 32, 64, num_classes=10, image_size=32),
}
