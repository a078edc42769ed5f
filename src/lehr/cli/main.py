"""`lehr`: the verbs, and the one place where errors become exit codes.

Exit 2: the input is wrong. Exit 1: the input is sound but the result could not be reached. Verbs
import what they need when they run, so that `lehr --help` stays fast.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lehr import __version__
from lehr.cli import (
    branch,
    coord_check,
    demo,
    diagnose,
    export,
    fit,
    import_,
    merge,
    optimize,
    peak_lr,
    predict,
    ratio_law,
    recommend,
    report,
    runs,
    studio,
    sweep,
    train,
    transfer,
)
from lehr.cli.common import say
from lehr.errors import InputError, LehrError

app = typer.Typer(
    name="lehr",
    help="From a few cheap training runs, how to set and anneal the learning rate of the expensive one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def _version(show: bool) -> None:
    if show:
        print(f"lehr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read logs, fit loss-curve laws, predict, and recommend how to anneal."""


app.command("demo")(demo.demo)
app.command("import")(import_.import_logs)
app.command("runs")(runs.runs)
app.command("fit")(fit.fit)
app.command("predict")(predict.predict)
app.command("recommend")(recommend.recommend)
app.command("report")(report.report)
app.command("optimize")(optimize.optimize)
app.command("ratio-law")(ratio_law.ratio_law)
app.add_typer(peak_lr.app, name="peak-lr")
app.command("merge")(merge.merge)
app.command("export")(export.export)
app.command("branch")(branch.branch)
app.command("transfer")(transfer.transfer)
app.command("train")(train.train)
app.add_typer(sweep.app, name="sweep")
app.command("coord-check")(coord_check.coord_check)
app.command("diagnose")(diagnose.diagnose)
app.command("studio")(studio.studio)


def main() -> None:
    """Run the command line; errors are one message on stderr."""
    try:
        app()
    except LehrError as error:
        say(f"error: {error}")
        sys.exit(2 if isinstance(error, InputError) else 1)
    except OSError as error:
        say(f"error: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
