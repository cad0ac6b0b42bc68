"""PyTorch twins of flaxzoo/models/darknet.py, which gives the references."""

from collections import OrderedDict
from functools import partial

from torch import nn
from torch.nn import functional as F


class ConvNorm(nn.Module):
    def __init__(self, in_features, out_features, kernel_size, stride=1, *, slope):
        super().__init__()
        self.conv = nn.Conv2d(
            in_features, out_features, kernel_size, stride, kernel_size // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_features)
        self.slope = slope

    def forward(self, x):
        return F.leaky_relu(self.bn(self.conv(x)), self.slope)


class DarkBlock(nn.Module):
    def __init__(self, features, slope):
        super().__init__()
        self.conv1 = ConvNorm(features, features // 2, 1, slope=slope)
        self.conv2 = ConvNorm(features // 2, features, 3, slope=slope)

    def forward(self, x):
        return x + self.conv2(self.conv1(x))


class DarkStage(nn.Module):
    def __init__(self, in_features, out_features, depth, slope):
        super().__init__()
        self.conv_down = ConvNorm(in_features, out_features, 3, 2, slope=slope)
        self.blocks = nn.Sequential(*(DarkBlock(out_features, slope) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.conv_down(x))


class Darknet53(nn.Module):
    def __init__(self, width, depths, num_classes=1000, in_channels=3, slope=0.01):
        super().__init__()
        stem = ConvNorm(in_channels, width, 3, slope=slope)
        self.stem = nn.Sequential(OrderedDict(conv1=stem))
        self.stages = nn.Sequential()
        for depth in depths:
            self.stages.append(DarkStage(width, 2 * width, depth, slope))
            width *= 2
        fc = nn.Linear(width, num_classes)
        self.head = nn.Sequential(OrderedDict(fc=fc))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, DarkBlock):
                nn.init.zeros_(module.conv2.bn.weight)
        nn.init.normal_(fc.weight, std=0.01)
        nn.init.zeros_(fc.bias)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class Darknet19(nn.Module):
    def __init__(self, widths, num_classes=1000, in_channels=3, slope=0.1):
        super().__init__()
        self.features, features = nn.Sequential(), in_channels
        for i, stage in enumerate(widths):
            layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if i else []
            for j, width in enumerate(stage):
                layers.append(ConvNorm(features, width, 1 if j % 2 else 3, slope=slope))
                features = width
            self.features.append(nn.Sequential(*layers))
        self.classifier = nn.Conv2d(features, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.get_parameter("bias"))

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


_WIDTHS_19 = (
    (32,),
    (64,),
    (128, 64, 128),
    (256, 128, 256),
    (512, 256, 512, 256, 512),
    (1024, 512, 1024, 512, 1024),
)

VARIANTS = {
    "darknet19": partial(Darknet19, _WIDTHS_19),
    "darknet53": partial(Darknet53, 32, (1, 2, 8, 8, 4)),
    "test_darknet19": partial(Darknet19, ((8,), (16, 8, 16)), num_classes=10),
    "test_darknet": partial(Darknet53, 8, (1, 2), num_classes=10),
}
