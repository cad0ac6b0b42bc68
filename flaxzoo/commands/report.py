"""`flaxzoo report`: runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flaxzoo.arguments import check_output
from flaxzoo.commands import common
from flaxzoo.comparison import comparison_page, differing_settings, read_runs

COLUMNS = {
    "run": ("run", ""),
    "model": ("model", ""),
    "epoch": ("epoch", ".4g"),
    "train_loss": ("loss", ".4f"),
    "best_validation": ("valid.", ".2%"),
    "test": ("test", ".2%"),
    "images_per_second": ("images/s", ",.0f"),
    "seconds": ("seconds", ",.0f"),
}


def run(arguments: Sequence[str]) -> None:
    """Compares runs in a table, and in a page with their curves where one is asked for."""
    parser = common.parser(
        "report",
        "Compares runs: figures, the settings in which they differ, and with --html a page with "
        "their curves. Validation is the best of the run, of averaged weights where it has them.",
        ["runs/a runs/b", "runs --html comparison.html", "runs --csv"],
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a workdir, or a folder of them")
    parser.add_argument("--html", metavar="FILE", help="write a page with overlaid curves")
    common.add_format(parser)
    parsed = parser.parse_args(arguments)
    if parsed.html:
        check_output(parsed.html)
    runs = read_runs([Path(folder).expanduser() for folder in parsed.runs])
    common.write_rows([run.row() for run in runs], COLUMNS, parsed)
    console = Console(highlight=False, soft_wrap=True, stderr=parsed.json or parsed.csv)
    if not (parsed.json or parsed.csv):
        for name, values in differing_settings(runs).items():
            console.print(f"{name}: {', '.join(map(str, values))}", markup=False)
    if parsed.html:
        common.write_page(Path(parsed.html), comparison_page(runs), console)
