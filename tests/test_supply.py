"""What is installed is pinned, hashed and free to use; importing flaxzoo asks no server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import licences

ROOT = Path(__file__).parents[1]
PINS = sorted(path.name for path in ROOT.glob("requirements*.txt"))
LOCK = (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("file", PINS)
def test_every_pin_is_in_the_lock_with_its_version(file):
    pins = re.findall(r"^([\w.-]+)(?:\[.*\])?==([\w.]+)", (ROOT / file).read_text(), re.MULTILINE)
    assert pins or "-r " in (ROOT / file).read_text()
    found = licences.locked()
    assert {name: found.get(licences.canonicalize_name(name)) for name, _ in pins} == dict(pins)


def test_every_package_of_the_lock_has_its_hashes():
    entries = re.split(r"^(?=[\w])", LOCK, flags=re.MULTILINE)
    assert entries[0] == ""
    bare = [e for e in entries[1:] if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", e)]
    assert bare == []


def test_the_lock_names_no_server_and_no_folder():
    assert re.findall(r".*(?:/|://|index-url|find-links).*", LOCK) == []


def test_the_page_of_licences_is_that_of_the_lock():
    page = licences.PAGE.read_text()
    named = dict(re.findall(r"^\| ([\w.-]+) \| (\S+) \| [^|]+ \| [a-z ]+ \|$", page, re.MULTILINE))
    named.pop("package")
    assert named == licences.locked()


def test_no_licence_forbids_what_flaxzoo_may_be_used_for():
    page = licences.PAGE.read_text()
    rows = re.findall(r"^\| (\S+) \| (\S+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)[1:]
    assert len(rows) == len(licences.locked())
    assert licences.refused(rows) == []


@pytest.mark.parametrize(
    "licence", ["GPL-3.0", "AGPL-3.0-only", "GNU General Public License v3", "", "not named"]
)
def test_a_planted_licence_is_refused(licence):
    assert licences.refused([("x", "1", licence, "tests")]) == [f"x: {licence}"]


OFFLINE = """
import socket

class Refused(BaseException):  # which nobody catches as what a missing network raises
    pass

def refuse(*args, **options):
    raise Refused(f"asked for a connection: {args} {options}")

for name in ("create_connection", "getaddrinfo", "gethostbyname"):
    setattr(socket, name, refuse)
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse

import flaxzoo, flaxzoo.__main__, flaxzoo.training.trainer, flaxzoo.data, flaxzoo.export
model = flaxzoo.create_model("resnet_tiny", abstract=True)
assert model.num_classes
print("offline")
"""


def test_importing_and_making_a_model_asks_no_server():
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert run.stdout == "offline\n", run.stderr
