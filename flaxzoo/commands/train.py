"""`flaxzoo train`: the same as train.py."""

from collections.abc import Sequence

from flaxzoo.cli import train_command

HELP = r"""Trains an image classifier.

    python train.py --config=configs/resnext.py
    python train.py --config=configs/resnext.py:cifar10 --config.batch_size=64 --workdir=runs/mine

As one of several processes, on one host or many, each with the same folder to write to:

    srun python train.py --config=configs/resnext.py --workdir=DIR
    python train.py --config=configs/resnext.py --workdir=DIR \
        --coordinator=HOST:PORT --num_processes=2 --process_id=0
    python train.py --config=configs/resnext.py --workdir=DIR --coordinator=auto

The first is for launchers that say so (SLURM, Open MPI, TPU pods on GKE); the last lets JAX
look for them (Cloud TPU pods, Kubernetes).

Started again with the same command and --workdir, an interrupted run goes on where it stopped.
"""


def run(arguments: Sequence[str]) -> None:
    """Trains, or says how."""
    if {"--help", "-h"} & {*arguments}:
        print(HELP, end="")
    else:
        train_command(arguments)
