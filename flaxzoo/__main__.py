"""`python -m flaxzoo COMMAND`, also installed as `flaxzoo COMMAND`."""

import sys

from flaxzoo import commands
from flaxzoo.cli import run_command
from flaxzoo.huge_pages import restart_with_huge_pages


def main() -> None:
    """Runs the command that the command line names; exits with its code."""
    restart_with_huge_pages()
    sys.exit(run_command(lambda: commands.run(sys.argv[1:])))


if __name__ == "__main__":
    main()
