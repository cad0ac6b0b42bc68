"""Sums of the files in a folder: every kind of damage is told, and nothing else."""

import shutil
import subprocess

import pytest

from flaxzoo.checksums import SUMS_FILE, damage, write_sums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_bytes(bytes(range(256)))
    (tmp_path / "names").write_text("cat\n")
    write_sums(tmp_path)
    return tmp_path


def test_an_untouched_folder_is_whole_and_has_the_sums_alone_besides(folder):
    assert damage(folder) is None
    assert {path.name for path in folder.iterdir()} == {"a", "names", SUMS_FILE}


def test_every_flipped_bit_is_told(folder):
    path = folder / "a" / "weights"
    content = path.read_bytes()
    for i in range(0, 8 * len(content), 37):
        flipped = bytearray(content)
        flipped[i // 8] ^= 1 << i % 8
        path.write_bytes(flipped)
        assert damage(folder) == "a/weights is not as it was saved", f"bit {i}"


@pytest.mark.parametrize("size", [0, 255, 257])
def test_another_length_is_told(folder, size):
    (folder / "a" / "weights").write_bytes(bytes(i % 256 for i in range(size)))
    assert damage(folder) == "a/weights is not as it was saved"


def test_a_missing_file_is_told(folder):
    shutil.rmtree(folder / "a")
    assert damage(folder) == "a/weights is missing"


def test_a_file_more_does_not_matter(folder):
    (folder / "notes.txt").write_text("mine")
    assert damage(folder) is None


def test_without_sums_nothing_is_known(folder):
    (folder / SUMS_FILE).unlink()
    (folder / "names").unlink()
    assert damage(folder) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: "", "cut short"),
        (lambda text: text[:-10], "cut short"),
        (lambda text: "\udcff" + text, "has a line that is no sum"),
        (lambda text: text.replace("  names", "  /dev/zero"), "has a line that is no sum"),
        (lambda text: text.replace("  names", "  ../names"), "has a line that is no sum"),
    ],
)
def test_odd_sums_are_told_and_lead_nowhere(folder, change, told):
    path = folder / SUMS_FILE
    path.write_text(change(path.read_text()), errors="surrogateescape")
    assert told in damage(folder)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_sha256sum_reads_them_as_well(folder):
    check = ["sha256sum", "--check", "--strict", "--quiet", SUMS_FILE]
    assert subprocess.run(check, cwd=folder, timeout=60).returncode == 0
    (folder / "names").write_text("dog\n")
    assert subprocess.run(check, cwd=folder, timeout=60, capture_output=True).returncode == 1
