"""Makes a flaxzoo model and a PyTorch twin of it with equal weights."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx

from flaxzoo.arguments import integer
from flaxzoo.convert import load_torch, to_torch
from flaxzoo.errors import UserError
from flaxzoo.layers import BatchNorm, Dropout, StochasticDepth
from flaxzoo.models import create_model, takes
from flaxzoo.models.base import Classifier, two_sides
from flaxzoo.sources import open_source
from flaxzoo.trained import outputs_and_channels

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch_ref", "torchvision", "timm")  # whose models can be the twin
TIMM_NAMES = {"xception": "legacy_xception"}  # where timm's name is another than ours
DEFAULT_SIZE = 64  # pixels


@dataclass
class Twins:
    """A torch model and its flaxzoo twin with equal weights, and images for both."""

    torch_model: "torch.nn.Module"
    flax_model: Classifier
    images: np.ndarray  # (n, h, w, c)
    labels: np.ndarray
    against: str = "torch_ref"
    options: dict[str, Any] = field(default_factory=dict)  # that both were made with

    @property
    def torch_images(self) -> "torch.Tensor":
        import torch

        return torch.from_numpy(np.ascontiguousarray(self.images.transpose(0, 3, 1, 2)))

    def in_float64(self) -> "Twins":
        """Returns the same with a torch model in float64, of the same values."""
        return replace(self, torch_model=copy.deepcopy(self.torch_model).double())

    def of_another(self, against: str) -> "Twins":
        """Returns the same with the torch model that `against` has, of the same values.

        It is torch_ref or torchvision, whose names are ours.
        """
        model = self.flax_model
        torch_model = _create_torch(against, model.variant, self.options)
        torch_model = torch_model.to(self.torch_images.dtype)
        _switch_off_dropout(torch_model, model)
        twins = replace(self, torch_model=torch_model, against=against)
        _fill(twins)
        return twins

    @property
    def channels_last(self) -> bool:
        """Whether the stages of the torch model, too, are (n, h, w, c): Swin's are."""
        return type(self.torch_model).__name__ == "SwinTransformer"


def make_twins(
    name: str,
    *,
    against: str = "torch_ref",
    dtype: str,
    image_size: int | tuple[int, int] | object | None = None,
    batch_size: int | object,
    seed: int = 0,
    calibrated: bool = True,
    weights: str | Path | None = None,
    **options: Any,
) -> Twins:
    """Returns both models of `name` with equal weights, and images for them.

    The weights are those given, as `create_model(pretrained=...)` takes them, or calibrated, or
    else torch's own initial values. Neither model drops anything in training: the two frameworks
    draw different random numbers.

    Raises:
        UserError: torch or the library is not installed, or the weights are not theirs.
    """
    batch_size = integer("batch_size", batch_size, 2)  # the logits of two images are compared
    if image_size is not None:
        image_size = two_sides(image_size)
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError("parity needs torch: pip install 'flaxzoo[parity]'") from None

    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    types = {"dtype": dtype, "param_dtype": dtype}
    if weights is None or image_size is not None:
        size = _size(name, image_size, options)
        if takes(name, "image_size"):
            options = {"image_size": size} | options
    if weights is None:
        flax_model = create_model(name, abstract=True, **types, **options)
    else:
        source = open_source(weights, name, "weights")
        classes, channels = outputs_and_channels(name, source.weights)
        options = {"num_classes": classes, "in_channels": channels} | options
        flax_model = create_model(name, pretrained=weights, **types, **options)
        options = _options_of(flax_model)
        size = _size(name, image_size or flax_model.image_size, options)
    shape = (batch_size, *size, flax_model.in_channels)
    flax_model.check_shape(shape)
    torch_model = _create_torch(against, name, options).to(getattr(torch, dtype))
    _switch_off_dropout(torch_model, flax_model)
    twins = Twins(
        torch_model,
        flax_model,
        images=rng.normal(size=shape).astype(dtype),
        labels=rng.integers(flax_model.num_classes, size=batch_size),
        against=against,
        options=options,
    )
    if weights is not None:
        _fill(twins, weights)
        return twins
    if calibrated:
        calibrate(torch_model, twins.torch_images, rng)
    load_torch(flax_model, torch_model.state_dict())
    return twins


def _options_of(model: Classifier) -> dict[str, Any]:
    """Returns the options that make another model like this one."""
    options = {"num_classes": model.num_classes, **dict(model.variant_options)}
    if model.image_size is not None:
        options["image_size"] = model.image_size
    if model.in_channels != 3:  # torchvision's models take no such option
        options["in_channels"] = model.in_channels
    return options


def _fill(twins: Twins, weights: str | Path | None = None) -> None:
    """Gives the torch model the values of the flaxzoo model.

    Those of timm have other names: `weights`, which the values are from, must have them, too.
    """
    import torch

    model, torch_model = twins.flax_model, twins.torch_model
    if twins.against == "timm":
        state_dict: Any = dict(open_source(weights, model.variant, "weights").weights)
    else:
        state_dict = to_torch(model)
    state_dict.update({k: torch.from_numpy(np.copy(v)) for k, v in state_dict.items()})
    try:
        torch_model.load_state_dict(state_dict)
    except RuntimeError:
        if twins.against != "timm":
            raise
        raise UserError(
            f"{weights} has other names than timm's {model.variant}: compare its weights with "
            "torch_ref's or torchvision's."
        ) from None
    if twins.against == "torch_ref":
        give_eps(torch_model, model)


def give_eps(twin: "torch.nn.Module", model: Classifier) -> None:
    """Gives a twin's batch normalisation the eps of `model`'s: timm's weights have their own."""
    for path, layer in nnx.iter_graph(model):
        if isinstance(layer, BatchNorm):
            setattr(twin.get_submodule(".".join(map(str, path))), "eps", layer.eps)  # noqa: B010


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Has torch use one thread inside.

    Its operations are small here, and where other programs keep the cores busy its threads wait
    for one another: a depthwise convolution in float64 took 70 times as long with two as with one.
    """
    try:
        import torch
    except ModuleNotFoundError:  # make_twins says so
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _size(
    name: str, image_size: int | tuple[int, int] | object | None, options: dict[str, Any]
) -> tuple[int, int]:
    """Returns height and width of the images to compare with."""
    if image_size is None:
        image_size = _default_size(name, options)
    return two_sides(image_size)


def _default_size(name: str, options: dict[str, Any]) -> int:
    """Returns the least size from DEFAULT_SIZE on that the model trains on."""
    size = max(DEFAULT_SIZE, create_model(name, abstract=True, **options).min_train_size)
    if not takes(name, "image_size") or "image_size" in options:
        return size
    while True:
        try:
            create_model(name, abstract=True, image_size=size, **options)
        except UserError:  # no multiple of the patch or of the window
            size += 1
        else:
            return size


def _create_torch(against: str, name: str, options: dict[str, Any]) -> "torch.nn.Module":
    """Returns the PyTorch model that `against` has under `name`.

    Raises:
        UserError: the library is not installed, or has no such model.
    """
    if against == "torch_ref":
        import torch_ref

        return torch_ref.create_model(name, **options)
    library = import_library(against)
    options = dict(options)
    if against == "timm":
        name = TIMM_NAMES.get(name, name)
        if "in_channels" in options:
            options["in_chans"] = options.pop("in_channels")
        if "image_size" in options:
            options["img_size"] = options.pop("image_size")
        exists, create = library.is_model(name), library.create_model
    else:
        if name.startswith("vit"):  # torchvision takes one number for both sides
            options["image_size"], _ = options["image_size"]
        elif "image_size" in options:
            options["input_size"] = options.pop("image_size")
        if name in ("googlenet", "inception_v3"):  # its slow initial values are replaced anyway
            options["init_weights"] = False
        exists, create = name in library.models.list_models(), library.models.get_model
    if not exists:
        raise UserError(f"{against} {library.__version__} has no model named {name}.")
    return _with_exact_hardsigmoid(create(name, **options))


def _with_exact_hardsigmoid(model: "torch.nn.Module") -> "torch.nn.Module":
    """Replaces torch's Hardsigmoid, whose gradient is computed with a sixth rounded to float32.

    In float64 it is 3e-8 off, more than the rest of a network together.
    """
    import torch

    class Hardsigmoid(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.relu6(x + 3) / 6

    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.Hardsigmoid):
                setattr(module, name, Hardsigmoid())
    return model


def import_library(name: str) -> Any:
    """Returns torchvision or timm.

    Raises:
        UserError: it is not installed.
    """
    try:
        _import_torchvision()  # timm imports it, too
        if name == "timm":
            import timm as library
        else:
            import torchvision as library
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed: pip install --no-deps -r requirements-parity.txt"
        ) from None
    return library


def _import_torchvision() -> None:
    """Imports torchvision even where its compiled part does not fit the installed torch.

    Its wheel on PyPI is built for CUDA. Beside torch for CPUs that part does not load, and the
    import fails for want of the schemas of two detection operators, which no classifier needs.
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _SCHEMAS.append(library)
        import torchvision  # noqa: F401


_SCHEMAS: list[Any] = []  # a schema lives as long as its Library


def _switch_off_dropout(torch_model: "torch.nn.Module", flax_model: Classifier) -> None:
    for module in torch_model.modules():
        for rate in ("p", "drop_prob", "drop_rate", "dropout"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
    for _, layer in nnx.iter_graph(flax_model):
        if isinstance(layer, Dropout | StochasticDepth):
            layer.rate = 0.0


def calibrate(model: "torch.nn.Module", images: "torch.Tensor", rng: np.random.Generator) -> None:
    """Randomises what initialisation leaves constant and takes the running statistics of `images`.

    They are then moved a little, or training on the same images would leave them where they are.
    Biases of batch normalisation lie around 1, so that one unit in six is below its ReLU's kink.
    With half of them there a ResNet-50 is chaotic: torch's own float32 gradient then differs from
    its float64 one by 20%, and three steps of training by 60%.
    """
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            constant = bool((parameter == parameter.flatten()[0]).all())
            if parameter.ndim >= 2 and parameter.abs().max() < 1e-3:  # gMLP's gates
                constant = True
            if parameter.ndim < 2 or constant:  # scales, biases, zero heads, layer scales
                noise = torch.from_numpy(0.2 * rng.normal(size=tuple(parameter.shape)))
                parameter.copy_(noise + parameter if constant else noise)
        norms: list[Any] = [m for m in model.modules() if hasattr(m, "running_mean")]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.bias.add_(1.0)
            norm.momentum = 1.0  # the statistics of this batch alone
        model.train()(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            shift = 0.1 * rng.normal(size=norm.num_features)
            norm.running_mean += norm.running_var.sqrt() * torch.from_numpy(shift)
            norm.running_var *= torch.from_numpy(rng.uniform(0.8, 1.25, norm.num_features))
