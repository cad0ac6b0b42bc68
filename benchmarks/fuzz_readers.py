"""Damages small files of every format that flaxzoo reads, at random, and has them read.

    python -m benchmarks.fuzz_readers --minutes 15       all formats in turn; --formats zip legacy

The property: a result or a UserError of one line, in bounded memory and time. What breaks it is
shrunk by hypothesis and printed with its traceback; --found FOLDER keeps it.
tests/test_strangers.py runs a hundred examples of each format, always the same ones.
"""

import argparse
import collections
import os
import resource
import signal
import tempfile
import time
import traceback
import tracemalloc
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.file_formats import formats
from flaxzoo.errors import UserError

MOST_MEMORY = 2**28  # bytes that a reader may take for a file of kilobytes
MOST_SECONDS = 30

# ------------------------------------------------------------------------------------------ damage

NUMBERS = [0, 1, -1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1]
TOKENS = [
    *(bytes([op]) for op in range(40, 128)), b"\x00", b"\xff" * 4, b"PK\1\2", b"PK\3\4", b"PK\5\6",
    b"[" * 3000, b'{"a":' * 3000, b"(" * 3000, b"NaN", b"1e999", b"null", b"-1", b"1" * 5000,
    b'"dtype"', b"cos\nsystem\n", b"r\xff\xff\xff\x0f", b"\xed\xa0\x80", b"|O", b"\x1f\x8b\x08",
]  # fmt: skip
NAMES = ["../x", "/etc/x", "", "a" * 300, "..", ".x", "x/", "\x1b[2J", "\u202ex", "archive/data/0"]


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    """Returns some bytes with one place changed."""
    at = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(["flip", "number", "token", "insert", "delete", "cut", "repeat"]))
    if kind == "flip" and at < len(content):
        return (
            content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
        )
    if kind == "number":
        size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
        number = draw(st.sampled_from(NUMBERS)) % 256**size
        return content[:at] + number.to_bytes(size, order) + content[at + size :]
    if kind == "token":
        return content[:at] + draw(st.sampled_from(TOKENS)) + content[at:]
    if kind == "insert":
        return content[:at] + draw(st.binary(min_size=1, max_size=12)) + content[at:]
    end = at + draw(st.integers(1, 64))
    if kind == "repeat":
        return content[:end] + content[at:end] * draw(st.integers(1, 8)) + content[end:]
    return content[:at] + (content[end:] if kind == "delete" else b"")


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """Returns a file of the format of this name, damaged inside, as a whole, or both."""
    form = formats()[name]
    parts = list(form.parts)
    for _ in range(draw(st.integers(0, 3))):
        if not parts:
            break
        i = draw(st.integers(0, len(parts) - 1))
        what = draw(st.sampled_from(["edit"] * 5 + ["drop", "twice", "rename", "last"]))
        label, content = parts[i]
        if what == "edit":
            parts[i] = label, draw(edited(content))
        elif what == "rename":
            parts[i] = draw(st.sampled_from(NAMES)), content
        elif what == "drop":
            del parts[i]
        elif what == "twice":
            parts.insert(draw(st.integers(0, len(parts))), parts[i])
        else:
            parts.append(parts.pop(i))
    whole = form.pack(parts)
    return draw(edited(whole)) if draw(st.booleans()) else whole


# ---------------------------------------------------------------------------------------- property


def check(name: str, content: bytes, folder: Path, *, measure: bool = True) -> bool:
    """Has a file read; returns whether it was, and not refused.

    Args:
        measure: whether memory is, which doubles the time.

    Raises:
        AssertionError: the refusal is no printable line, or too much memory was taken.
        Exception: whatever else than UserError the reader raises.
    """
    form = formats()[name]
    path = folder / form.file
    path.write_bytes(content)
    peak = 0
    if measure:
        tracemalloc.start()
    try:
        form.read(path)
        read = True
    except UserError as error:
        message, read = str(error), False
        assert message.encode(), "a refusal without a word"
        assert "\n" not in message, message
        assert len(message) < 4000, message
    finally:
        if measure:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peak < MOST_MEMORY + 4 * len(content), f"{peak:,} bytes for {len(content):,}"
    return read


def fuzz(
    name: str, count: int, folder: Path, *, measure: bool = True, **options: Any
) -> dict[str, int]:
    """Checks `count` damaged files; returns how many were read and how many refused.

    Args:
        measure: see `check`.
        options: of hypothesis.settings.
    """
    seen: collections.Counter[str] = collections.Counter()

    @settings(
        max_examples=count, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], **options,
    )  # fmt: skip
    @given(damaged(name))
    def run(content: bytes) -> None:
        signal.alarm(MOST_SECONDS)
        try:
            read = check(name, content, folder, measure=measure)
            seen["read" if read else "refused"] += 1
        except BaseException:
            seen["broken"] += 1
            (folder / f"{name}.broken").write_bytes(content)  # the last is the smallest
            raise
        finally:
            signal.alarm(0)

    run()
    return dict(seen)


def _too_slow(*_: Any) -> None:
    raise AssertionError(f"more than {MOST_SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--formats", nargs="*", default=list(formats()), choices=list(formats()))
    parser.add_argument("--found", type=Path, help="a folder for what breaks a reader")
    parsed = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_slow)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    most = used + 4 * MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    end, total = time.monotonic() + 60 * parsed.minutes, collections.Counter()
    while time.monotonic() < end:
        for name in parsed.formats:
            if time.monotonic() > end:
                break
            with tempfile.TemporaryDirectory() as folder:
                try:
                    for what, number in fuzz(name, 50, Path(folder)).items():
                        total[name, what] += number
                except (Exception, BaseExceptionGroup) as error:
                    total[name, "broken"] += 1
                    traceback.print_exc(limit=-4)
                    broken = (Path(folder) / f"{name}.broken").read_bytes()
                    print(f"{name}: {type(error).__name__}, a file of {len(broken)} bytes")
                    if parsed.found:
                        parsed.found.mkdir(parents=True, exist_ok=True)
                        (parsed.found / f"{name}.{abs(hash(broken)):x}").write_bytes(broken)
    for (name, what), number in sorted(total.items()):
        print(f"{name:12s} {what:8s} {number:7,d}")


if __name__ == "__main__":
    main()
