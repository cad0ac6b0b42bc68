r"""Trains an image classifier.

    python train.py --config=configs/resnext.py
    python train.py --config=configs/resnext.py:cifar10 --config.batch_size=64 --workdir=runs/mine

Started again with the same command and --workdir, an interrupted run goes on where it stopped.
"""

import sys

from flaxzoo.cli import run_command, train_command

if __name__ == "__main__":
    if {"--help", "-h"} & set(sys.argv):
        print(__doc__)
        sys.exit(0)
    sys.exit(run_command(lambda: train_command(sys.argv[1:])))
