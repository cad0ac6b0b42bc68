"""`flaxzoo train`: the same as train.py."""

from flaxzoo.cli import train_command as run

__all__ = ["run"]
