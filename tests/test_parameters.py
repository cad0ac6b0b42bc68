"""Parameters by regular expression."""

import pytest

from flaxzoo import UserError, create_model, named_parameters


@pytest.fixture(scope="module")
def model():
    return create_model("resnet_tiny", abstract=True)


def test_a_pattern_is_searched_for_in_torch_names(model):
    assert list(named_parameters(model, r"^fc\.weight$")) == ["fc.kernel"]
    norms = named_parameters(model, "bn1")
    assert "bn1.scale" in norms
    assert not [name for name in norms if name.endswith((".mean", ".var"))]


def test_without_a_pattern_all_are_returned(model):
    assert "layer1.0.conv1.kernel" in named_parameters(model)
    assert len(named_parameters(model)) > len(named_parameters(model, "layer1"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("layr1", r"pattern: 'layr1' is found in no parameter's name; there are \d+, like layer1"),
        ("(", r"pattern: '\(' is not a regular expression"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(model, pattern, message):
    with pytest.raises(UserError, match=message):
        named_parameters(model, pattern)
