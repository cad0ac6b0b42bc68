"""Whatever a set needs before it can be trained on."""

import shutil
from pathlib import Path

from flaxzoo import data
from flaxzoo.data import archives, originals, tfds_build
from flaxzoo.data.archives import Remote
from flaxzoo.data.disk import as_size, check_space, exclusive, full, is_full
from flaxzoo.data.download import download, verify
from flaxzoo.data.options import Options
from flaxzoo.data.unpack import unpack
from flaxzoo.errors import UserError

_ELSEWHERE = "choose another --data_dir"


def prepare(name: str, options: Options) -> str:
    """Prepares a set, unless it is; returns what to tell.

    Args:
        name: of `data.SOURCES`, or "NAME[:CONFIG]" of TFDS.

    Raises:
        UserError: there is no such set, or it cannot be prepared.
    """
    where = "" if options.data_dir is None else f" --config.data.data_dir={options.data_dir}"
    original = originals.named(name)
    if name == "digits":
        return "digits come with the package; there is nothing to prepare"
    if name in archives.REMOTES:
        data.load(name, data_dir=options.data_dir, validation=0)
        return f"{name} is in {options.root}; train with --config=...:{name}{where}"
    if original is None:
        directory = tfds_build.build(name, options)
        return f"{name} is in {directory}; train with --config=...:tfds={name}{where}"
    folder = originals.images_folder(original, options)
    done = f"{original} is in {folder}; train with --config=...:{original}{where}"
    if folder.is_dir():
        return done
    spare = _prepare_original(original, options)
    if not spare:
        return done
    size = as_size(sum(path.stat().st_size for path in spare))
    return f"{done}\n{' and '.join(map(str, spare))} ({size}) may be deleted"


def _prepare_original(name: str, options: Options) -> list[Path]:
    """Fetches what is missing, and unpacks it; returns the archives, which nobody needs any more.

    The images are unpacked under another name, which a process that dies leaves behind and the
    next one deletes.
    """
    original, images = originals.ORIGINALS[name], originals.images_folder(name, options)
    part = images.with_name("images.part")
    try:
        images.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(images.with_name("prepare.lock"), f"prepares {name}"):
            if images.is_dir():
                return []
            shutil.rmtree(part, ignore_errors=True)
            files = _fetch(name, options)
            try:
                _unpack(name, files, part)
                part.rename(images)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            return list(files.values())
    except OSError as error:
        if is_full(error):
            needed = original.unpacked_size
            raise full(images.parent, needed, f"unpacking {name}", _ELSEWHERE) from error
        raise UserError(
            f"cannot prepare {name} in {images.parent}: {error.filename or name}: {error.strerror}"
        ) from error


def _unpack(name: str, files: dict[str, Path], part: Path) -> None:
    """Unpacks all archives of a set into `part`."""
    original = originals.ORIGINALS[name]
    for key in files.keys() - set(original.packed):  # the lists; archives are verified on the way
        remote = original.files[key]
        verify(files[key], remote.url, remote.sha256, remote.size)
    classes, place = original.layout(files)
    count = sum(unpack(files[key], original.files[key], place, part) for key in original.packed)
    expected = sum(original.counts.values())
    if count != expected:
        raise UserError(f"{name} has {count:,} images in its archives; expected {expected:,}")
    originals.write_classes(part, classes)


def _fetch(name: str, options: Options) -> dict[str, Path]:
    """Returns the files of a set: those that are on disk, and the others, downloaded."""
    original, folder = originals.ORIGINALS[name], options.root / name
    found = {key: _on_disk(remote, folder) for key, remote in original.files.items()}
    missing = {key: original.files[key] for key, path in found.items() if path is None}
    if missing and original.manual:
        files = " and ".join(remote.file for remote in missing.values())
        raise UserError(
            f"{files} of {name} cannot be downloaded without a login; "
            f"{originals.advice(name, options)}"
        )
    size = sum(remote.size - _begun(remote, folder) for remote in missing.values())
    what = f"downloading and unpacking {name}"
    check_space(folder, size + original.unpacked_size, what, _ELSEWHERE)
    for key, remote in missing.items():
        path = folder / remote.file
        found[key] = download(
            remote.url, path, sha256=remote.sha256, size=remote.size, elsewhere=_ELSEWHERE
        )
    return {key: path for key, path in found.items() if path is not None}


def _on_disk(remote: Remote, folder: Path) -> Path | None:
    """Returns where a file is: in the folder of its set, the one above, or where TFDS wants it."""
    places = folder, folder.parent, folder.parent / "downloads" / "manual"
    return next((place / remote.file for place in places if (place / remote.file).is_file()), None)


def _begun(remote: Remote, folder: Path) -> int:
    """Returns how many bytes of a download an earlier attempt has left."""
    part = folder / f"{remote.file}.part"
    return part.stat().st_size if part.is_file() else 0
