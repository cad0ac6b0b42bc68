"""PyTorch twins of flaxzoo's models. Imports torch and nothing of flaxzoo."""

from torch import nn

from torch_ref import resnet

VARIANTS = {**resnet.VARIANTS}


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
