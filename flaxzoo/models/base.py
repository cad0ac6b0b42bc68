"""What every classifier does: checks its input, walks its stages, ends in a head."""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from flaxzoo.arguments import integer, one_of
from flaxzoo.errors import UserError, shown, unknown
from flaxzoo.layers import random_key
from flaxzoo.layers.module import value_of
from flaxzoo.models import surgery
from flaxzoo.models.surgery import FeatureInfo


def two_sides(image_size: object, least: int = 1) -> tuple[int, int]:
    """Returns height and width from a number or a pair, each at least `least`.

    Raises:
        UserError: it is something else.
    """
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2:
        raise UserError(f"image_size takes a number or (height, width); got {shown(image_size)}.")
    height, width = (integer("image_size", side, least) for side in sides)
    return height, width


def centred(x: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Takes images normalised with ImageNet's means and deviations to means and deviations of 0.5.

    torchvision's `transform_input`: what the weights of GoogLeNet and Inception were trained on.
    """
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    return x * jnp.asarray(std / 0.5, x.dtype) + jnp.asarray((mean - 0.5) / 0.5, x.dtype)


def check_transform(transform_input: bool, in_channels: int) -> None:
    """Raises UserError where images that are not of three channels should be `centred`."""
    if transform_input and in_channels != 3:
        raise UserError(f"transform_input needs in_channels=3; got {in_channels}.")


def check_width(width: object) -> None:
    """Raises UserError where `width`, the factor of all numbers of channels, is not positive."""
    if isinstance(width, bool) or not (isinstance(width, int | float) and 0 < width < np.inf):
        raise UserError(f"width must be a positive number; got {width!r}.")


def check_stem(stem: object) -> None:
    """Raises UserError where `stem` is no name of a stem.

    "imagenet" is the paper's. "cifar" keeps small images at their size: its first convolution is a
    3x3 of stride 1, and no pooling follows it.
    """
    one_of("stem", stem, ("imagenet", "cifar"))


class Classifier(nnx.Module):
    """Images to logits. A subclass writes `run_stages` and `forward_head` and sets its layers.

    Attributes:
        in_channels: channels of the images it takes.
        num_classes: length of the logits; 0 where the head was removed and they are the embedding.
        min_size: the smallest height and width that it can take.
        image_size: the only height and width that it can take, where it was made for one.
        dtype: the type it computes in; parameters keep theirs, statistics are float32 or better.
        variant: its name in the registry.
        variant_options: what `create_model` got for it beside classes and channels.
        version: of the torch model; torchvision's may build another net for weights of an old one.

    What a family says about itself:
        first_conv: the convolution that sees the images.
        head_names: the layers whose outputs are classes, each of a kernel and perhaps a bias.
        aux_heads: auxiliary heads, each with the stage whose map it takes.
        aux_weight: the weight of their losses beside the main one.
        old_names: (regex, replacement) from names in older files to today's.
        timm_names: the same, from the names that timm gives this architecture.
        timm_eps: the eps of timm's batch normalisation, where it differs from ours.
        optional: parts that a file may have and a model may do without.
    """

    min_size: int = 1
    image_size: tuple[int, int] | None = None
    variant: str = ""
    variant_options: tuple[tuple[str, Any], ...] = ()
    version: int = 1
    first_conv: ClassVar[str] = "conv1"
    head_names: ClassVar[tuple[str, ...]] = ("fc",)
    aux_heads: Mapping[str, str] = {}
    aux_weight: ClassVar[float] = 0.0
    old_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    timm_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    timm_eps: ClassVar[float | None] = None
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, in_channels: int, num_classes: int):
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.dtype: np.dtype = np.dtype("float32")

    @abstractmethod
    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        """Yields (name, feature map) after each stage, shallow to deep.

        A stage is named after the torch module whose output it is.
        """

    @abstractmethod
    def forward_head(self, x: Array, pre_logits: bool = False) -> Float[Array, "n features"]:
        """Returns the logits of the last stage's map, or the embedding: what enters the last layer.

        Where the last layer is a convolution, that is its input's mean over the map.
        """

    @property
    def min_train_size(self) -> int:
        """The smallest height and width to train with: an auxiliary head may need more."""
        return self.min_size

    def __call__(
        self, images: ArrayLike | object, *, key: jax.Array | object | None = None
    ) -> Float[Array, "n classes"]:
        """Returns the logits of `images` (n, h, w, c), floating point and normalised.

        `key` feeds dropout and stochastic depth and is needed only where the model trains with
        them.

        Raises:
            UserError: wrong rank, dtype or channels, images smaller than `min_size`, or a model
                without values.
        """
        with random_key(key):
            return self.forward_head(self.forward_features(images))

    def forward_train(
        self, images: ArrayLike | object, *, key: jax.Array | object | None = None
    ) -> tuple[Float[Array, "n classes"], dict[str, Float[Array, "n classes"]]]:
        """Returns the logits, and those of the auxiliary heads by name, which only training uses.

        The loss of a model with such heads is that of the logits plus `aux_weight` times theirs.
        """
        with random_key(key):
            stages = dict(self.run_stages(self._checked(images)))
            heads = self.aux_heads if self.num_classes else {}
            aux = {head: getattr(self, head)(stages[at]) for head, at in heads.items()}
            *_, last = stages.values()
            return self.forward_head(last), aux

    def timm_keys(self) -> dict[str, str]:
        """Returns our names of timm's modules, where no pattern in `timm_names` can tell them."""
        return {}

    def adapt_weights(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the weights of a file, by our names and in torch's layout, made to fit.

        For what belongs to the architecture: a table of positions for another image size.
        """
        return weights

    @classmethod
    def options_of(cls, weights: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the options of the constructor that a file of weights decides.

        Args:
            weights: the file's arrays by their names.
            metadata: what torch stores beside them, {"module": {"version": 1}}, or nothing.
        """
        return {}

    def forward_features(
        self, images: ArrayLike | object, *, key: jax.Array | object | None = None
    ) -> Array:
        """Returns the last stage's feature map, which `forward_head` takes."""
        *_, last = self.feature_maps(images, key=key).values()
        return last

    def feature_maps(
        self,
        images: ArrayLike | object,
        stages: Collection[str] | object | None = None,
        *,
        key: jax.Array | object | None = None,
    ) -> dict[str, Array]:
        """Returns every stage's feature map by name, shallow to deep, or those of `stages`.

        What comes after the deepest of `stages` is not computed. `feature_info` says what there is.

        Raises:
            UserError: there is no such stage, or the images are not what the model takes.
        """
        if isinstance(stages, str) or not isinstance(stages, Collection | None):
            raise UserError(f"stages must be a list of names; got {shown(stages)}.")
        maps: dict[str, Array] = {}
        with random_key(key):
            for name, x in self.run_stages(self._checked(images)):
                maps[name] = x
                if stages is not None and set(stages) <= maps.keys():
                    break
        if stages is None:
            return maps
        for name in set(stages) - maps.keys():
            raise unknown(f"stage of {type(self).__name__}", name, maps)
        return {name: x for name, x in maps.items() if name in stages}

    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """Returns what each stage returns, shallow to deep, found by evaluating shapes alone."""
        return surgery.feature_info(self)

    def reset_classifier(self, num_classes: int | object, *, seed: int | object = 0) -> None:
        """Replaces the head and auxiliary heads by new ones for `num_classes`, in place.

        They get the initial values that `create_model` would give them with this seed; everything
        else stays as it is. With 0 the heads are removed and the model returns the embedding; their
        place is kept, and another call puts new ones there. A model without values stays so. What
        was made of the old model, like the state of an optimiser, has to be made again.

        Raises:
            UserError: `num_classes` or `seed` is not such a number.
        """
        num_classes = integer("num_classes", num_classes, 0)
        surgery.replace_heads(self, num_classes, seed=integer("seed", seed, 0))
        self.num_classes = num_classes

    @property
    def abstract(self) -> bool:
        """Whether it has shapes without values."""
        variables = (node for _, node in nnx.iter_graph(self) if isinstance(node, nnx.Variable))
        first = next(variables, None)  # all have values or none
        return first is not None and isinstance(value_of(first), jax.ShapeDtypeStruct)

    def _checked(self, images: Any) -> Float[Array, "n h w c"]:
        try:
            images = jnp.asarray(images)
        except (TypeError, ValueError):
            raise UserError(
                f"{type(self).__name__} takes images as an array of shape (n, h, w, c); "
                f"got {shown(images)}."
            ) from None
        self.check_shape(images.shape)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UserError(
                f"{type(self).__name__} takes normalised floating-point images; "
                f"got {images.dtype}: divide by 255 and normalise first."
            )
        if self.abstract:
            raise UserError(
                f"this {type(self).__name__} has no values yet: fill it with load_torch, or create "
                "it without abstract=True."
            )
        return images.astype(self.dtype)

    def check_shape(self, shape: tuple[Any, ...]) -> None:
        """Raises UserError where the model cannot take images of this shape."""
        name = type(self).__name__
        if len(shape) != 4:
            raise UserError(f"{name} takes images of shape (n, h, w, c); got {shape}.")
        if shape[-1] != self.in_channels:
            hint = " (channels come last)" if shape[1] == self.in_channels else ""
            raise UserError(
                f"{name} was made for {self.in_channels} channels; got images of shape "
                f"{shape}{hint}: set in_channels, or convert the images."
            )
        if self.image_size is not None and shape[1:3] != self.image_size:
            height, width = self.image_size
            raise UserError(
                f"this {name} was made for images of {height}x{width} pixels; got "
                f"{shape[1]}x{shape[2]}: resize them, or create it with another image_size."
            )
        if min(shape[1:3]) < self.min_size:
            raise UserError(
                f"{name} takes images of {self.min_size}x{self.min_size} pixels or more; "
                f"got {shape[1]}x{shape[2]}."
            )
