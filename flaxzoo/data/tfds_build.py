"""Having TFDS prepare its sets: the one thing for which TensorFlow may be needed."""

import os
import urllib.parse
from pathlib import Path
from typing import Any

from flaxzoo.data import originals, tfds
from flaxzoo.data.archives import REMOTES
from flaxzoo.data.disk import exclusive, full, is_full
from flaxzoo.data.download import unreachable
from flaxzoo.data.options import Options
from flaxzoo.errors import UserError, unknown


def build(value: str, options: Options) -> Path:
    """Has TFDS prepare NAME or NAME:CONFIG as array_record, unless it is; returns its folder.

    Most of TFDS's builders need TensorFlow for this.

    Raises:
        UserError: there is no such set, or TFDS cannot prepare it; the message says why.
    """
    root, name = tfds.data_root(options), "/".join(filter(None, tfds.parse_name(value)))
    known = set(tfds.library().list_builders(with_community_datasets=False))
    if tfds.prepared_folder(value, options) is None and tfds.parse_name(value)[0] not in known:
        raise unknown("data set", value, known | {*REMOTES, *originals.ORIGINALS})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # of TensorFlow: errors alone
    size = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        with exclusive(root / f"{name.replace('/', '-')}.lock", f"prepares {name}"):
            if tfds.prepared_folder(value, options) is None:
                builder = tfds.library().builder(name, data_dir=root, file_format="array_record")
                size = int(builder.info.download_size) + int(builder.info.dataset_size) or None
                _check_network(builder, root / "downloads" / tfds.parse_name(value)[0])
                builder.download_and_prepare()
    except UserError:
        raise
    except Exception as error:  # of TFDS, of the builder, of what either imports
        if is_full(error):
            raise full(root, size, f"preparing {name}", "choose another --data_dir") from error
        raise UserError(f"TFDS cannot prepare {name} in {root}: {_why(error)}") from error
    directory = tfds.prepared_folder(value, options)
    assert directory is not None
    tfds.check_format(directory)
    return directory


def _check_network(builder: Any, downloads: Path) -> None:
    """Raises UserError if the servers of a set cannot be reached, which TFDS says after minutes.

    Not where something was downloaded before: that may be all there is to download.
    """
    if any(".tmp." not in path.name for path in downloads.glob("*")):
        return
    urls = {urllib.parse.urlsplit(url).netloc: url for url in builder.url_infos or ()}
    reasons = {url: unreachable(url) for url in list(urls.values())[:3]}
    if reasons and all(reasons.values()):
        url, reason = next(iter(reasons.items()))
        raise UserError(
            f"cannot download {url} ({reason}), which TFDS prepares {builder.name} from; prepare "
            f"it on a machine with a network, and copy {Path(builder.data_dir).parent} from there"
        )


def _why(error: BaseException) -> str:
    """Returns what stopped TFDS, in one line."""
    text, cause = " ".join(str(error).split()) or type(error).__name__, error
    while cause is not None and not isinstance(cause, ModuleNotFoundError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return text
    package = (cause.name or "").partition(".")[0]
    if package == "tensorflow":
        return "this takes TensorFlow, which training does not: pip install tensorflow"
    return f"this takes the package {package}: pip install {package}"
