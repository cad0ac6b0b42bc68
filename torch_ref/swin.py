"""PyTorch twins of flaxzoo/models/swin.py, which gives the references."""

import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import StochasticDepth


def _relative_position_index(window):
    rows, columns = torch.cartesian_prod(torch.arange(window), torch.arange(window)).T
    down = rows[:, None] - rows + window - 1
    right = columns[:, None] - columns + window - 1
    return (down * (2 * window - 1) + right).flatten()


def _relative_coords_table(window):
    offsets = torch.arange(1 - window, window, dtype=torch.float32) / (window - 1) * 8
    spaced = offsets.sign() * (offsets.abs() + 1).log2() / 3
    return torch.stack(torch.meshgrid(spaced, spaced, indexing="ij"), dim=-1)[None]


def _regions(length, window, shift):
    position = torch.arange(length)
    return (position >= length - window).int() + (position >= length - shift).int()


class WindowAttention(nn.Module):
    def __init__(self, features, heads, window, shift, dropout):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("relative_position_index", _relative_position_index(window))
        self.make_position_bias()

    def make_position_bias(self):
        table = torch.empty((2 * self.window - 1) ** 2, self.heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))

    def position_bias(self):
        return self.of_pairs(self.relative_position_bias_table)

    def of_pairs(self, table):
        count = self.window**2
        return table[self.relative_position_index].view(count, count, -1).permute(2, 0, 1)

    def heads_of(self, packed):
        return packed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def scores(self, x):
        query, key, value = self.heads_of(self.qkv(x))
        return query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1), value

    def forward(self, x):
        n, height, width, c = x.shape
        size = self.window
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        rows, columns = x.shape[1:3]
        down, right = (self.shift if side > size else 0 for side in (rows, columns))
        x = x.roll((-down, -right), (1, 2))
        grid = (n, rows // size, size, columns // size, size, -1)
        scores, value = self.scores(x.view(grid).transpose(2, 3).reshape(-1, size**2, c))
        scores = scores + self.position_bias()
        if down or right:
            region = 3 * _regions(rows, size, down)[:, None] + _regions(columns, size, right)
            region = region.to(x.device).view(grid[1:5]).transpose(1, 2).reshape(-1, size**2)
            mask = -100.0 * (region[:, None] != region[:, :, None]).to(x.dtype)
            scores = (scores.unflatten(0, (n, -1)) + mask[:, None]).flatten(0, 1)
        x = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = self.dropout(self.proj(x))
        x = x.view(n, rows // size, columns // size, size, size, c).transpose(2, 3)
        x = x.reshape(n, rows, columns, c).roll((down, right), (1, 2))
        return x[:, :height, :width]


class CosineWindowAttention(WindowAttention):
    def make_position_bias(self):
        self.logit_scale = nn.Parameter(torch.full((self.heads, 1, 1), math.log(10)))
        self.register_buffer("relative_coords_table", _relative_coords_table(self.window))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, self.heads, bias=False)
        )

    def position_bias(self):
        return 16 * torch.sigmoid(
            self.of_pairs(self.cpb_mlp(self.relative_coords_table).flatten(0, 2))
        )

    def scores(self, x):
        mask = torch.ones(3, 1, dtype=x.dtype, device=x.device)
        mask[1] = 0  # keys have no bias
        bias = (self.qkv.bias.view(3, -1) * mask).flatten()
        query, key, value = self.heads_of(F.linear(x, self.qkv.weight, bias))
        scale = self.logit_scale.clamp(max=math.log(100)).exp()
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        return scores * scale, value


class Block(nn.Module):
    attention = WindowAttention

    def __init__(self, features, heads, window, shift, dropout, stochastic_depth):
        super().__init__()
        self.norm1 = nn.LayerNorm(features)
        self.attn = self.attention(features, heads, window, shift, dropout)
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = nn.Sequential(
            nn.Linear(features, 4 * features),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * features, features),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        x = x + self.stochastic_depth(self.attn(self.norm1(x)))
        return x + self.stochastic_depth(self.mlp(self.norm2(x)))


class BlockV2(Block):
    attention = CosineWindowAttention

    def forward(self, x):
        x = x + self.stochastic_depth(self.norm1(self.attn(x)))
        return x + self.stochastic_depth(self.norm2(self.mlp(x)))


def _squares(x):
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
    return torch.cat(corners, dim=-1)


class PatchMerging(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.reduction = nn.Linear(4 * features, 2 * features, bias=False)
        self.norm = nn.LayerNorm(4 * features)

    def forward(self, x):
        return self.reduction(self.norm(_squares(x)))


class PatchMergingV2(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.reduction = nn.Linear(4 * features, 2 * features, bias=False)
        self.norm = nn.LayerNorm(2 * features)

    def forward(self, x):
        return self.norm(self.reduction(_squares(x)))


class ChannelsLast(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class SwinTransformer(nn.Module):
    def __init__(
        self, version, embed_features, depths, attention_heads, window, num_classes=1000,
        in_channels=3, stochastic_depth=0.0, dropout=0.0, patch_size=4,
    ):  # fmt: skip
        super().__init__()
        block, merging = ((Block, PatchMerging), (BlockV2, PatchMergingV2))[version - 1]
        features = embed_features
        patches = nn.Conv2d(in_channels, features, patch_size, stride=patch_size)
        self.features = nn.Sequential(
            nn.Sequential(patches, ChannelsLast(), nn.LayerNorm(features))
        )
        last = max(1, sum(depths) - 1)
        rates = (stochastic_depth * i / last for i in range(sum(depths)))
        for depth, heads in zip(depths, attention_heads, strict=True):
            if len(self.features) > 1:
                self.features.append(merging(features))
                features *= 2
            blocks = (
                block(features, heads, window, i % 2 * (window // 2), dropout, next(rates))
                for i in range(depth)
            )
            self.features.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.head(self.norm(self.features(x)).mean((1, 2)))


VARIANTS = {
    "swin_t": partial(
        SwinTransformer, 1, 96, (2, 2, 6, 2), (3, 6, 12, 24), 7, stochastic_depth=0.2
    ),
    "swin_s": partial(
        SwinTransformer, 1, 96, (2, 2, 18, 2), (3, 6, 12, 24), 7, stochastic_depth=0.3
    ),
    "swin_b": partial(
        SwinTransformer, 1, 128, (2, 2, 18, 2), (4, 8, 16, 32), 7, stochastic_depth=0.5
    ),
    "swin_v2_t": partial(
        SwinTransformer, 2, 96, (2, 2, 6, 2), (3, 6, 12, 24), 8, stochastic_depth=0.2
    ),
    "swin_v2_s": partial(
        SwinTransformer, 2, 96, (2, 2, 18, 2), (3, 6, 12, 24), 8, stochastic_depth=0.3
    ),
    "swin_v2_b": partial(
        SwinTransformer, 2, 128, (2, 2, 18, 2), (4, 8, 16, 32), 8, stochastic_depth=0.5
    ),
    "test_swin": partial(
        SwinTransformer, 1, 16, (2, 2, 2), (2, 2, 4), 4, num_classes=10, stochastic_depth=0.1,
        patch_size=3,
    ),
    "test_swin_v2": partial(
        SwinTransformer, 2, 16, (2, 2, 2), (2, 2, 4), 4, num_classes=10, stochastic_depth=0.1,
        patch_size=3,
    ),
}  # fmt: skip
