"""PyTorch twins of flaxzoo/models/xception_aligned.py, which gives the references."""

from collections import OrderedDict
from functools import partial

from torch import nn
from torch.nn import functional as F

_conv = partial(nn.Conv2d, bias=False)
_norm = partial(nn.BatchNorm2d, eps=1e-3)


class SeparableConv(nn.Module):
    def __init__(self, in_features, out_features, stride, activate):
        super().__init__()
        self.conv_dw = _conv(in_features, in_features, 3, stride, padding=1, groups=in_features)
        self.bn_dw = _norm(in_features)
        self.conv_pw = _conv(in_features, out_features, 1)
        self.bn_pw = _norm(out_features)
        self.act = F.relu if activate else nn.Identity()

    def forward(self, x):
        x = self.act(self.bn_dw(self.conv_dw(x)))
        return self.act(self.bn_pw(self.conv_pw(x)))


class Block(nn.Module):
    def __init__(self, in_features, widths, stride, residual=True):
        super().__init__()
        self.residual = residual
        self.shortcut = nn.Identity()
        if residual and (stride != 1 or in_features != widths[-1]):
            conv = _conv(in_features, widths[-1], 1, stride)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, bn=_norm(widths[-1])))
        layers, features, strides = OrderedDict(), in_features, (1, 1, stride)
        for i, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
            if residual:
                layers[f"act{i}"] = nn.ReLU()
            layers[f"conv{i}"] = SeparableConv(features, width, stride, activate=not residual)
            features = width
        self.stack = nn.Sequential(layers)

    def forward(self, x):
        return self.stack(x) + self.shortcut(x) if self.residual else self.stack(x)


class XceptionAligned(nn.Module):
    def __init__(
        self, entry, middle, num_classes=1000, in_channels=3, stem="imagenet",
        stem_widths=(32, 64), exit_widths=(1024, 1536, 2048),
    ):  # fmt: skip
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise KeyError(f"no stem named {stem!r}; known: cifar, imagenet")
        a, features = stem_widths
        self.stem = nn.Sequential(
            _conv_norm_relu(in_channels, a, 2 if stem == "imagenet" else 1),
            _conv_norm_relu(a, features, 1),
        )
        blocks = []
        for width, stride in entry:
            blocks.append(Block(features, (width,) * 3, stride))
            features = width
        blocks += [Block(features, (features,) * 3, 1) for _ in range(middle)]
        c, d, e = exit_widths
        blocks.append(Block(features, (features, c, c), 2))
        blocks.append(Block(c, (d, d, e), 1, residual=False))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(e, num_classes)))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def _conv_norm_relu(in_features, out_features, stride):
    conv = _conv(in_features, out_features, 3, stride, padding=1)
    return nn.Sequential(OrderedDict(conv=conv, bn=_norm(out_features), relu=nn.ReLU()))


_ENTRY = ((128, 2), (256, 2), (728, 2))
_ENTRY_71 = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))

VARIANTS = {
    "xception41": partial(XceptionAligned, _ENTRY, 8),
    "xception65": partial(XceptionAligned, _ENTRY, 16),
    "xception71": partial(XceptionAligned, _ENTRY_71, 16),
    "test_xception_aligned": partial(
        XceptionAligned, ((24, 2), (32, 1)), 1, num_classes=10,
        stem_widths=(8, 16), exit_widths=(40, 48, 56),
    ),
}  # fmt: skip
