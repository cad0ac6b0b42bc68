"""Huge pages for programs: what a step allocates costs the kernel little."""

import os
import sys
import threading
from pathlib import Path

TUNABLES = "GLIBC_TUNABLES"
OFFER = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Starts the program anew with huge pages, where Linux gives them only to who asks.

    XLA:CPU allocates what a step needs in one block and frees it afterwards; glibc asks the system
    for it each time, and the kernel clears and maps it in pages of 4 KiB. In pages of 2 MiB, a
    training step (16 images of 128 pixels, two cores of a virtual EPYC) of resnet50 takes 1,290 ms
    instead of 1,578, of efficientnet_b0 357 instead of 503. Processes hardly grow: resnet50's to
    1,522 MiB at most instead of 1,516, mobilenet_v2's to 1,014 instead of 955.

    glibc reads the setting when a process starts, hence the second start, which takes 0.1 s: same
    process, same arguments. An environment that sets GLIBC_TUNABLES is left as it is, so there is
    no third. Nor is a process with other threads started anew: it is a notebook's or a debugger's,
    which runs the program as a guest.
    """
    if TUNABLES in os.environ or threading.active_count() > 1:
        return
    if not (OFFER.is_file() and "[madvise]" in OFFER.read_text()):
        return
    os.environ[TUNABLES] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, sys.orig_argv)
