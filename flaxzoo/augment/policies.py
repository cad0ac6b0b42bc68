"""RandAugment, TrivialAugment and AutoAugment: which operations an image gets, and how strong.

Spaces, tables and signs are torchvision's (transforms.v2), which are the papers'. Affine maps bring
in black from outside, its default.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from flaxzoo.augment import colour, geometry
from flaxzoo.augment.autoaugment import AUTOAUGMENT, Step
from flaxzoo.augment.keys import Images, Keys, PerImage, Whole, uniforms, whole

AFFINE = {
    name: getattr(geometry, name)
    for name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
}
# Images and magnitudes (n,) to images.
COLOUR: dict[str, Callable[[Images, PerImage], Images]] = {
    "brightness": lambda images, magnitude: colour.brightness(images, 1 + magnitude),
    "saturation": lambda images, magnitude: colour.saturation(images, 1 + magnitude),
    "contrast": lambda images, magnitude: colour.contrast(images, 1 + magnitude),
    "sharpness": lambda images, magnitude: colour.sharpness(images, 1 + magnitude),
    "posterize": colour.posterize,
    "solarize": lambda images, magnitude: colour.solarize(images, 255 * magnitude),
    "autocontrast": lambda images, _: colour.autocontrast(images),
    "equalize": lambda images, _: colour.equalize(images),
    "invert": lambda images, _: colour.invert(images),
}
OPERATIONS = ("identity", *AFFINE, *COLOUR)  # by number


def apply(images: Images, operation: Whole, magnitude: PerImage) -> Images:
    """Does to each image its own operation.

    All are computed for all images, and the wanted one is kept: elementwise work that XLA fuses. To
    run one operation an image (`lax.switch` in `lax.map`) is a loop over the batch, which keeps an
    accelerator waiting, and which XLA cannot split over devices: it gathers the batch on each.
    The affine maps differ in their matrices alone, and take one pass together.

    32 images of 224x224 take 0.3 s of one CPU core, half of it for `equalize`; 128 of 32x32 take
    0.03 s (AMD EPYC, jax 0.10.2). Not measured on accelerators.
    """
    result = images
    for name, function in COLOUR.items():
        chosen = operation == OPERATIONS.index(name)
        result = jnp.where(chosen[:, None, None, None], function(images, magnitude), result)
    h, w = images.shape[1:3]
    matrix = geometry.translate_x(jnp.zeros_like(magnitude), h, w)
    for name, make_matrix in AFFINE.items():
        chosen = operation == OPERATIONS.index(name)
        matrix = jnp.where(chosen[:, None, None], make_matrix(magnitude, h, w), matrix)
    # Last: each of the reductions above would take its pixels through the map once more.
    return geometry.affine(result, matrix)


@dataclass(frozen=True)
class Range:
    """The magnitudes of an operation, from the weakest to the strongest.

    Attributes:
        signed: whether half of the images get the negative magnitude.
        whole: whether they are rounded.
        side: "width" or "height" where they are shares of it.
    """

    weakest: float = 0.0
    strongest: float = 0.0
    signed: bool = False
    whole: bool = False
    side: str = ""

    def values(self, bins: int, height: int, width: int) -> np.ndarray:
        """Returns the magnitude of each bin, float32."""
        unit = {"": 1, "height": height, "width": width}[self.side]
        low, high = np.float32(self.weakest * unit), np.float32(self.strongest * unit)
        step = (high - low) / np.float32(bins - 1)
        # From both ends and rounded once, as torch.linspace has it: the 16 pixels in the middle of
        # TrivialAugment's translations are 15.999999, which become 15.
        bin = np.arange(bins, dtype=np.float64)
        values = np.where(bin < bins // 2, low + step * bin, high - step * (bins - 1 - bin))
        return (np.round(values) if self.whole else values).astype(np.float32)


Space = dict[str, Range]


def _space(*, shear: float, translate: dict[str, Range], rotate: float, enhance: float, lost: int):
    """Returns the ranges of a policy's operations, in torchvision's order."""
    return {
        "identity": Range(),
        "shear_x": Range(0.0, shear, signed=True),
        "shear_y": Range(0.0, shear, signed=True),
        **translate,
        "rotate": Range(0.0, rotate, signed=True),
        **{name: Range(0.0, enhance, signed=True)
           for name in ("brightness", "saturation", "contrast", "sharpness")},
        "posterize": Range(8.0, 8.0 - lost, whole=True),
        "solarize": Range(1.0, 0.0),
        "autocontrast": Range(),
        "equalize": Range(),
    }  # fmt: skip


# Cubuk et al. 2019, https://arxiv.org/abs/1909.13719
RANDAUGMENT: Space = _space(
    shear=0.3,
    translate={
        "translate_x": Range(0.0, 150 / 331, signed=True, side="width"),
        "translate_y": Range(0.0, 150 / 331, signed=True, side="height"),
    },
    rotate=30.0,
    enhance=0.9,
    lost=4,
)
# Mueller and Hutter 2021, https://arxiv.org/abs/2103.10158, its wide space
TRIVIALAUGMENT: Space = _space(
    shear=0.99,
    translate={name: Range(0.0, 32.0, signed=True) for name in ("translate_x", "translate_y")},
    rotate=135.0,
    enhance=0.99,
    lost=6,
)
BINS = 31  # of the magnitudes of both
AUTOAUGMENT_SPACE: Space = {**RANDAUGMENT, "invert": Range()}  # in 10 bins


def random_policy(images: Images, keys: Keys, policy: str, ops: int, magnitude: int) -> Images:
    """Applies one of config.POLICIES.

    Args:
        ops: how many operations RandAugment does to an image, one after the other.
        magnitude: the bin of 31 that RandAugment takes all magnitudes from.
    """
    h, w = images.shape[1:3]
    if policy == "randaugment":
        drawn = draw_operations(keys, RANDAUGMENT, h, w, ops, magnitude)
    elif policy == "trivialaugment":
        drawn = draw_operations(keys, TRIVIALAUGMENT, h, w)
    else:
        drawn = draw_autoaugment(keys, AUTOAUGMENT[policy.removeprefix("autoaugment_")], h, w)
    # A loop over two or so turns: unrolled, XLA computes the first again in many parts of the next.
    return jax.lax.scan(lambda images, turn: (apply(images, *turn), None), images, drawn)[0]


def draw_operations(
    keys: Keys, space: Space, h: int, w: int, turns: int = 1, magnitude: int | None = None
) -> tuple[Whole, PerImage]:
    """Draws operations of the space, each alike, and their magnitudes: two arrays (turns, n).

    Args:
        magnitude: the bin of all; left out, they are drawn as well.
    """
    which, bins, signs = uniforms(keys, 3 * turns).reshape(3, turns, -1)
    which = whole(which, len(space))
    bins = whole(bins, BINS) if magnitude is None else jnp.full_like(which, magnitude)
    values = jnp.asarray([of.values(BINS, h, w) for of in space.values()])[which, bins]
    number = jnp.asarray([OPERATIONS.index(name) for name in space], jnp.int32)[which]
    return number, _with_sign(values, number, signs)


def draw_autoaugment(
    keys: Keys, pairs: list[tuple[Step, Step]], h: int, w: int
) -> tuple[Whole, PerImage]:
    """Draws one of the pairs of operations, of which each is then done or not: as above."""
    which, *chances = uniforms(keys, 5)
    done, signs = jnp.stack(chances).reshape(2, 2, -1)
    which = whole(which, len(pairs))
    numbers, probabilities, values = (
        jnp.asarray([[column(*pair[turn]) for pair in pairs] for turn in (0, 1)])[:, which]
        for column in (
            lambda name, probability, bin: np.int32(OPERATIONS.index(name)),
            lambda name, probability, bin: np.float32(probability),
            lambda name, probability, bin: AUTOAUGMENT_SPACE[name].values(10, h, w)[bin],
        )
    )
    numbers = jnp.where(done < probabilities, numbers, 0)
    return numbers, _with_sign(values, numbers, signs)


def _with_sign(values: PerImage, operation: Whole, signs: PerImage) -> PerImage:
    signed = jnp.asarray([AUTOAUGMENT_SPACE[name].signed for name in OPERATIONS])[operation]
    return jnp.where(signed & (signs < 0.5), -values, values)
