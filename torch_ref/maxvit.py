"""PyTorch twins of flaxzoo/models/maxvit.py, which gives the references."""

from collections import OrderedDict
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import SqueezeExcitation, StochasticDepth

_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


def _conv_norm(in_features, features, kernel_size, stride=1, groups=1):
    conv = nn.Conv2d(
        in_features, features, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, _norm(features), nn.GELU())


class MBConv(nn.Module):
    def __init__(self, in_features, features, stride, stochastic_depth):
        super().__init__()
        self.proj = nn.Identity()
        if stride > 1 or in_features != features:
            self.proj = nn.Sequential(
                nn.AvgPool2d(3, stride, padding=1), nn.Conv2d(in_features, features, 1)
            )
        width = 4 * features
        self.layers = nn.Sequential(
            OrderedDict(
                pre_norm=_norm(in_features),
                conv_a=_conv_norm(in_features, width, 1),
                conv_b=_conv_norm(width, width, 3, stride, groups=width),
                squeeze_excitation=SqueezeExcitation(width, features // 4, F.silu),
                conv_c=nn.Conv2d(width, features, 1),
            )
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x):
        return self.proj(x) + self.stochastic_depth(self.layers(x))


def _relative_position_index(size):
    position = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    offset = position[:, None] - position + size - 1
    return offset[..., 0] * (2 * size - 1) + offset[..., 1]


class RelativeAttention(nn.Module):
    relative_position_index: torch.Tensor

    def __init__(self, features, head_dim, size):
        super().__init__()
        self.head_dim = head_dim
        self.to_qkv = nn.Linear(features, 3 * features)
        self.merge = nn.Linear(features, features)
        table = torch.empty((2 * size - 1) ** 2, features // head_dim)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", _relative_position_index(size))

    def forward(self, x):
        query, key, value = (
            y.unflatten(-1, (-1, self.head_dim)).transpose(2, 3)
            for y in self.to_qkv(x).chunk(3, dim=-1)
        )
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        scores = query @ key.transpose(-1, -2) * x.shape[-1] ** -0.5 + bias
        return self.merge((scores.softmax(-1) @ value).transpose(2, 3).flatten(3))


class PartitionAttention(nn.Module):
    def __init__(self, features, head_dim, size, grid, stochastic_depth):
        super().__init__()
        self.size = size
        self.grid = grid
        self.attn_layer = nn.Sequential(
            nn.LayerNorm(features), RelativeAttention(features, head_dim, size)
        )
        self.mlp_layer = nn.Sequential(
            nn.LayerNorm(features), nn.Linear(features, 4 * features), nn.GELU(),
            nn.Linear(4 * features, features),
        )  # fmt: skip
        self.stochastic_dropout = StochasticDepth(stochastic_depth)

    def forward(self, x):
        n, c, h, w = x.shape
        p = self.size
        if self.grid:
            split, order, back = (p, h // p, p, w // p), (0, 3, 5, 2, 4, 1), (0, 5, 3, 1, 4, 2)
        else:
            split, order, back = (h // p, p, w // p, p), (0, 2, 4, 3, 5, 1), (0, 5, 1, 3, 2, 4)
        x = x.reshape(n, c, *split).permute(order)
        groups = x.shape
        x = x.reshape(n, -1, p * p, c)
        x = x + self.stochastic_dropout(self.attn_layer(x))
        x = x + self.stochastic_dropout(self.mlp_layer(x))
        return x.reshape(groups).permute(back).reshape(n, c, h, w)


class MaxVitLayer(nn.Module):
    def __init__(self, in_features, features, stride, head_dim, partition_size, stochastic_depth):
        super().__init__()
        attend = partial(
            PartitionAttention, features, head_dim, partition_size,
            stochastic_depth=stochastic_depth,
        )  # fmt: skip
        self.layers = nn.Sequential(
            OrderedDict(
                MBconv=MBConv(in_features, features, stride, stochastic_depth),
                window_attention=attend(grid=False),
                grid_attention=attend(grid=True),
            )
        )

    def forward(self, x):
        return self.layers(x)


class MaxVitBlock(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class MaxVit(nn.Module):
    def __init__(
        self, stem_features, widths, depths, head_dim, num_classes=1000, in_channels=3,
        image_size=224, partition_size=7, stochastic_depth=0.2,
    ):  # fmt: skip
        super().__init__()
        self.stem = nn.Sequential(
            _conv_norm(in_channels, stem_features, 3, stride=2),
            nn.Sequential(nn.Conv2d(stem_features, stem_features, 3, padding=1)),
        )
        steps = max(sum(depths) - 1, 1)
        self.blocks = nn.Sequential()
        features, step = stem_features, 0
        for width, depth in zip(widths, depths, strict=True):
            layers = []
            for i in range(depth):
                stride, rate = 2 if i == 0 else 1, stochastic_depth * step / steps
                layers.append(MaxVitLayer(features, width, stride, head_dim, partition_size, rate))
                features, step = width, step + 1
            self.blocks.append(MaxVitBlock(layers))
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(features),
            nn.Linear(features, features),
            nn.Tanh(),
            nn.Linear(features, num_classes, bias=False),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.blocks(self.stem(x)))


VARIANTS = {
    "maxvit_t": partial(MaxVit, 64, (64, 128, 256, 512), (2, 2, 5, 2), 32),
    "test_maxvit": partial(
        MaxVit, 8, (16,), (2,), 8, num_classes=10, image_size=32, partition_size=2
    ),
}
