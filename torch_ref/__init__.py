"""PyTorch twins of flaxzoo's models. Imports torch and nothing of flaxzoo."""

from torch import nn

from torch_ref import (
    alexnet,
    convnext,
    darknet,
    densenet,
    efficientnet,
    gmlp,
    googlenet,
    inception,
    legacy_senet,
    lenet,
    maxvit,
    mlp_mixer,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    nin,
    regnet,
    resmlp,
    resnet,
    resnet_v2,
    senet,
    shufflenet_v1,
    shufflenet_v2,
    squeezenet,
    swin,
    vgg,
    vit,
    xception,
    xception_aligned,
)

FAMILIES = (
    alexnet,
    convnext,
    darknet,
    densenet,
    efficientnet,
    gmlp,
    googlenet,
    inception,
    legacy_senet,
    lenet,
    maxvit,
    mlp_mixer,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    nin,
    regnet,
    resmlp,
    resnet,
    resnet_v2,
    senet,
    shufflenet_v1,
    shufflenet_v2,
    squeezenet,
    swin,
    vgg,
    vit,
    xception,
    xception_aligned,
)
VARIANTS = {name: build for family in FAMILIES for name, build in family.VARIANTS.items()}


def create_model(
    name: str, *, num_classes: int | None = None, in_channels: int = 3, **options
) -> nn.Module:
    """Returns the twin of `flaxzoo.create_model(name, ...)`, in training mode.

    It takes images as torch does, (n, c, h, w).

    Raises:
        KeyError: there is no variant of this name.
    """
    if name not in VARIANTS:
        raise KeyError(f"no torch twin named {name!r}; known: {', '.join(sorted(VARIANTS))}")
    if num_classes is not None:
        options["num_classes"] = num_classes
    return VARIANTS[name](in_channels=in_channels, **options)
