"""Any config runs a step, or is refused before any work in one sentence."""

import re
from typing import Any

import pytest
from hypothesis import given, settings

from flaxzoo.check_config import check
from flaxzoo.errors import UserError
from flaxzoo.training.loop import train
from tests.training.any_config import CHANGES, build, changed, small_run, trace


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(CHANGES)
def test_a_config_runs_a_step_or_is_refused(tmp_path_factory, changes):
    run = built_or_told(changes)
    if not isinstance(run, str):
        trace(*run)
        return
    assert 20 < len(run) < 700
    assert "\n" not in run
    workdir = tmp_path_factory.mktemp("empty") / "run"
    with pytest.raises(UserError, match=f"^{re.escape(run)}$"):
        train(changed(small_run(), changes), workdir, quiet=True)
    assert not workdir.exists()


def built_or_told(changes: list[tuple[str, Any]]) -> Any:
    """Returns a run that is ready for its first step, or why there is none."""
    try:
        return build(check(changed(small_run(), changes)))
    except UserError as error:
        return str(error)
