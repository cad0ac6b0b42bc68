"""Trains an image classifier: `python train.py --help` tells how, as `flaxzoo train --help`."""

import sys

from flaxzoo.cli import run_command
from flaxzoo.commands import train
from flaxzoo.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()
    sys.exit(run_command(lambda: train.run(sys.argv[1:])))
