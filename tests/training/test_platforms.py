"""What GPUs and TPUs get to run, lowered here: nothing is compiled and neither is needed."""

import re

import pytest

from flaxzoo.config import AugmentConfig, Config, ModelConfig, data_config
from flaxzoo.models import FAMILIES
from flaxzoo.training.abstract import abstract_step
from flaxzoo.training.parallel import all_devices
from tests.models.zoo import SMALL, abstract, each, smallest

ONE_OF_EACH_FAMILY = [
    next(name for name in SMALL if name in family.VARIANTS) for family in FAMILIES
]


@pytest.mark.parametrize("name", each(ONE_OF_EACH_FAMILY))
def test_a_step_for_accelerators_has_native_convolutions_and_nothing_of_cpus(name):
    """Each has one forward and two for its gradients; of the first, none is for the images.

    On CPUs convolutions become products, loops (`while`) and calls of libraries (`custom_call`).
    """
    config = Config(
        batch_size=8,
        dtype="bfloat16",
        model=ModelConfig(name=name),
        augment=AugmentConfig(flip=True, shift=2),
        data=data_config("imagenette", image_size=smallest(abstract(name))[0]),
    )
    step, arguments = abstract_step(config, all_devices("jit"))
    convolutions = sum(kernel.ndim == 4 for kernel in arguments[0].params.values())
    lowered = step.trace(*arguments).lower(lowering_platforms=("cuda", "tpu"))
    found = re.findall(r"stablehlo\.(convolution|while|custom_call)\b", lowered.as_text())
    assert found == ["convolution"] * (3 * convolutions - 1) * 2  # a branch for each platform
