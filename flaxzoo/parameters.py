"""Parameters by regular expression.

A pattern is searched for in torch's names, the ones that state_dicts show: "^layer1[.]" is in
"layer1.0.conv1.weight", and "bn" in that of every such normalisation.
"""

import difflib
import re
from collections.abc import Collection
from typing import Any

from flax import nnx

from flaxzoo.arguments import text
from flaxzoo.convert import torch_name
from flaxzoo.errors import UserError
from flaxzoo.layers import named_variables


def named_parameters(
    model: nnx.Module | object, pattern: str | object = ""
) -> dict[str, nnx.Param]:
    """Returns the parameters of `model` in whose torch names `pattern` is found, by dotted name.

    Running statistics are none. The empty pattern is found in every name.

    Raises:
        UserError: it is no model, or the pattern is no regular expression, or is found nowhere.

    >>> from flaxzoo import create_model
    >>> list(named_parameters(create_model("resnet18", abstract=True), "^fc[.]"))
    ['fc.bias', 'fc.kernel']
    """
    parameters: dict[str, Any] = named_variables(model, nnx.Param)
    found = find(text("pattern", pattern, "a regular expression"), parameters, "pattern")
    return {name: parameters[name] for name in found}


def find(pattern: str, names: Collection[str], where: str) -> list[str]:
    """Returns those of the flaxzoo `names` in whose torch names `pattern` is found.

    Raises:
        UserError: it is no regular expression or is found in no name; `where` tells where it was
            written.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{where}: {pattern!r} is not a regular expression: {error}.") from None
    found = [name for name in names if compiled.search(torch_name(name))]
    if not found:
        raise _not_found(pattern, sorted(map(torch_name, names)), where)
    return found


def _not_found(pattern: str, names: list[str], where: str) -> UserError:
    modules = {name[: dot.start()] for name in names for dot in re.finditer(r"\.", name)}
    plain = re.sub(r"[\^$\\()\[\]]", "", pattern)
    near = difflib.get_close_matches(plain, sorted(modules.union(names)), 3)
    return UserError(
        f"{where}: {pattern!r} is found in no parameter's name; there are {len(names)}, "
        f"like {', '.join(near or names[:3])}."
    )
