"""What every source is told besides its name, and where files are kept by default."""

import dataclasses
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Options:
    """Attributes: see the arguments of `flaxzoo.data.load`."""

    data_dir: Path | None = None
    download: bool = True
    on_error: str = "raise"


def cache_dir() -> Path:
    """Returns the default data directory, $FLAXZOO_DATA or ~/.cache/flaxzoo/data."""
    return Path(os.environ.get("FLAXZOO_DATA") or "~/.cache/flaxzoo/data").expanduser()
