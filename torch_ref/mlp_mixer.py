"""PyTorch twins of flaxzoo/models/mlp_mixer.py, which gives the references."""

from functools import partial

from torch import nn

from torch_ref.blocks import Mlp, PatchClassifier, StochasticDepth


class MixerBlock(nn.Module):
    def __init__(self, width, tokens, stochastic_depth):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_tokens = Mlp(tokens, width // 2)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_channels = Mlp(width, 4 * width)
        self.drop_path = StochasticDepth(stochastic_depth)

    def forward(self, x):
        x = x + self.drop_path(self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2))
        return x + self.drop_path(self.mlp_channels(self.norm2(x)))


class MlpMixer(PatchClassifier):
    block = MixerBlock
    make_norm = staticmethod(partial(nn.LayerNorm, eps=1e-6))


VARIANTS = {
    "mixer_s16_224": partial(MlpMixer, 16, 8, 512),
    "mixer_s32_224": partial(MlpMixer, 32, 8, 512),
    "mixer_b16_224": partial(MlpMixer, 16, 12, 768),
    "mixer_b32_224": partial(MlpMixer, 32, 12, 768),
    "mixer_l16_224": partial(MlpMixer, 16, 24, 1024),
    "test_mlp_mixer": partial(MlpMixer, 8, 2, 32, num_classes=10, image_size=32),
}
