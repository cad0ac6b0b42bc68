"""What every source is told besides its name, what splits are called, where files are kept."""

import dataclasses
import os
import re
from pathlib import Path

COLUMNS = ("image", "label")  # options of sources that are tables: which column is what
SPLITS = {  # what folders, tables and hubs call them
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Attributes: see the arguments of `flaxzoo.data.load`."""

    data_dir: Path | None = None
    download: bool = True
    on_error: str = "raise"

    @property
    def root(self) -> Path:
        """The folder below which archives and prepared sets are kept."""
        return (self.data_dir or cache_dir()).expanduser()


def cache_dir() -> Path:
    """Returns the default data directory, $FLAXZOO_DATA or ~/.cache/flaxzoo/data."""
    return Path(os.environ.get("FLAXZOO_DATA") or "~/.cache/flaxzoo/data").expanduser()


def split_columns(value: str) -> tuple[str, dict[str, str]]:
    """Splits what a table is from what its columns are, unless there is a file of the whole name.

    >>> split_columns("a,b.csv,image=file name,label=breed")
    ('a,b.csv', {'image': 'file name', 'label': 'breed'})
    """
    if os.path.exists(os.path.expanduser(value)):
        return value, {}
    table, *options = re.split(rf",\s*({'|'.join(COLUMNS)})=", value)
    return table, dict(zip(options[::2], options[1::2], strict=True))
