"""PyTorch twin of flaxzoo/models/convnext.py, which gives the references."""

from functools import partial

import torch
from torch import nn

from torch_ref.blocks import StochasticDepth


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


class Block(nn.Module):
    def __init__(self, features, layer_scale, drop_rate):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(features, features, 7, padding=3, groups=features),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(features, eps=1e-6),
            nn.Linear(features, 4 * features),
            nn.GELU(),
            nn.Linear(4 * features, features),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((features, 1, 1), layer_scale))
        self.stochastic_depth = StochasticDepth(drop_rate)

    def forward(self, x):
        return x + self.stochastic_depth(self.layer_scale * self.block(x))


class ConvNeXt(nn.Module):
    def __init__(
        self, depths, widths, num_classes=1000, in_channels=3, stem="imagenet",
        stochastic_depth=0.0, layer_scale=1e-6,
    ):  # fmt: skip
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        norm = partial(LayerNorm2d, eps=1e-6)
        if stem == "imagenet":
            conv = nn.Conv2d(in_channels, widths[0], 4, stride=4)
        else:
            conv = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        layers = [nn.Sequential(conv, norm(widths[0]))]
        count, steps = 0, sum(depths) - 1
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if i > 0:
                shrink = nn.Conv2d(widths[i - 1], width, 2, stride=2)
                layers.append(nn.Sequential(norm(widths[i - 1]), shrink))
            rates = [stochastic_depth * (count + j) / steps for j in range(depth)]
            layers.append(nn.Sequential(*(Block(width, layer_scale, rate) for rate in rates)))
            count += depth
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        head = nn.Linear(widths[-1], num_classes)
        self.classifier = nn.Sequential(norm(widths[-1]), nn.Flatten(), head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)))


VARIANTS = {
    "convnext_tiny": partial(ConvNeXt, (3, 3, 9, 3), (96, 192, 384, 768), stochastic_depth=0.1),
    "convnext_small": partial(ConvNeXt, (3, 3, 27, 3), (96, 192, 384, 768), stochastic_depth=0.4),
    "convnext_base": partial(ConvNeXt, (3, 3, 27, 3), (128, 256, 512, 1024), stochastic_depth=0.5),
    "convnext_large": partial(ConvNeXt, (3, 3, 27, 3), (192, 384, 768, 1536), stochastic_depth=0.5),
    "test_convnext": partial(ConvNeXt, (1, 1), (16, 24), num_classes=10),
}
