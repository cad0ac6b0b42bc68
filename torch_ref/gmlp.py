"""PyTorch twins of flaxzoo/models/gmlp.py, which gives the references."""

from functools import partial

from torch import nn
from torch.nn import functional as F

from torch_ref.blocks import PatchClassifier, StochasticDepth


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
    def __init__(self, width, tokens, stochastic_depth):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp_channels = GatedMlp(width, 6 * width, tokens)
        self.drop_path = StochasticDepth(stochastic_depth)

    def forward(self, x):
        return x + self.drop_path(self.mlp_channels(self.norm(x)))


class Gmlp(PatchClassifier):
    block = GmlpBlock
    make_norm = staticmethod(partial(nn.LayerNorm, eps=1e-6))


VARIANTS = {
    "gmlp_ti16_224": partial(Gmlp, 16, 30, 128),
    "gmlp_s16_224": partial(Gmlp, 16, 30, 256),
    "gmlp_b16_224": partial(Gmlp, 16, 30, 512),
    "test_gmlp": partial(Gmlp, 8, 2, 32, num_classes=10, image_size=32),
}
