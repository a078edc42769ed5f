"""`lehr studio`: the questions of the other verbs on a page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, say, show
from lehr.errors import InputError

if TYPE_CHECKING:
    from lehr.studio.state import Encoders, Sources


def studio(
    store: Annotated[
        Path | None, typer.Argument(help="Folder of the store; without it, the bundled runs.")
    ] = None,
    fit: Annotated[Path | None, typer.Option(help="File made by lehr fit --out, to begin with.")] = None,
    peak_lr_fit: Annotated[
        Path | None,
        typer.Option(help="File made by lehr peak-lr fit --out, for the calculator of the peak LR."),
    ] = None,
    log: Annotated[
        list[Path] | None, typer.Option(help="Log of a run in progress, read again as it grows; repeatable.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(envvar="LEHR_STUDIO_TOKEN", help="Token; default one made at random.")
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let --host be one that other machines reach.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address and the token as JSON.")] = False,
) -> None:
    """Serve the studio until Ctrl-C: fit, predict, plan and compare schedules in the browser."""
    try:
        from lehr.studio.serve import Address, check_address, prepare
    except ModuleNotFoundError as error:
        raise InputError(f"the studio needs the package {error.name}: pip install 'lehr[studio]'.") from None
    from lehr.fit.files import load_fits
    from lehr.peaklr.sweep_fit import load_sweep_fit
    from lehr.studio.state import GIVEN, Studio

    address = check_address(Address(host, port, token, allow_remote))
    held = Studio(sources_of(store, tuple(log or ())), encoders())
    if fit is not None:
        held.fits[GIVEN] = load_fits(fit)
    if peak_lr_fit is not None:
        held.sweep = load_sweep_fit(peak_lr_fit)
    prepared = prepare(held, address)
    whole = f"{prepared.url}?token={prepared.token}"
    if as_json:
        print_json({"url": whole, "token": prepared.token}, one_line=True)
    else:
        if allow_remote:
            say("warning: other machines reach the studio, and what they send is not encrypted.")
        show(f"studio at {whole}", flush=True)
        say("Ctrl-C ends it.")
    prepared.run()


def sources_of(store: Path | None, logs: tuple[Path, ...]) -> Sources:
    """Runs of a store, or the bundled ones, with those of growing logs."""
    from lehr.cli.demo import BUNDLED
    from lehr.examples import load_examples
    from lehr.runs.following import read_growing
    from lehr.runs.readers.reading import ReadOptions
    from lehr.runs.run import RunSet
    from lehr.runs.store import load_runs
    from lehr.studio.state import Sources

    def load() -> RunSet:
        known = load_examples() if store is None else load_runs(store)
        grown = [each.run for log in logs for each in read_growing(log, ReadOptions(segments=True))]
        return RunSet([*known, *grown])

    if store is None:
        return Sources(None, load, BUNDLED.train)
    return Sources(store.name or "store", load, store=store)


def encoders() -> Encoders:
    """The JSON of the other verbs."""
    from lehr.cli import (
        branch,
        export,
        fit,
        optimize,
        peak_lr_predict,
        peak_lr_published,
        recommend,
        transfer,
    )
    from lehr.studio.state import Encoders

    def plan(found: Any) -> dict[str, Any]:
        return {**recommend.to_json(found.best), **recommend.plan_json(found)}

    return Encoders(
        fits=fit.to_json, plan=plan, optimum=optimize.to_json, advice=branch.to_json, transfer=transfer.to_json,
        published=peak_lr_published.to_json, peak=peak_lr_predict.to_json, export=lambda made: export.to_json(made, {}),
    )  # fmt: skip
