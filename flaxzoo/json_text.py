"""JSON of strangers: whatever is wrong with a text is one kind of error."""

import json
from typing import Any


def parse_json(text: str) -> Any:
    """Returns what json.loads returns.

    Raises:
        ValueError: it is no JSON, or nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
