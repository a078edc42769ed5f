"""The measured tables of docs/choosing-a-law.md, all by one command.

    python -m benchmarks.all_laws [--check] [--json]

Runs mpl_curves on both sizes under each protocol and wsd_runs trained on three and on five runs, on the
public curves in $LEHR_DATA (default ../shared/data), and rewrites what stands between the markers
`<!-- measured: NAME -->` and `<!-- end -->`. --check writes nothing: it shows how the document differs from
what was measured and exits with 1 if it does. --json prints what was measured, and writes nothing.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import mpl_curves, wsd_runs
from benchmarks.common import one_size_laws
from lehr.fit.folds import KINDS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "choosing-a-law.md"
SIZES = {"csv_25": "MPL 25M", "csv_100": "MPL 100M"}
WAYS = {"cosine-to-wsd": "cosine to WSD", "wsd-to-cosine": "WSD to cosine"}
SETS = {"three": "124M, three", "five": "124M, five"}
DRAWS = 60


def measure(data: Path) -> dict[str, Any]:
    """Run every benchmark; {"mpl": {PROTOCOL: {DIR: found}}, "wsd": {SET: found}}."""
    curves = data / "mpl-curves"
    return {
        "mpl": {
            protocol: {size: mpl_curves.benchmark(curves / size, protocol) for size in SIZES}
            for protocol in ("three", *WAYS)
        },
        "wsd": {train: wsd_runs.benchmark([data / "wsd-runs"], train, DRAWS) for train in SETS},
    }


def tables(measured: Mapping[str, Any]) -> dict[str, str]:
    """Every table of the document by the name of its marker."""
    mpl, wsd = measured["mpl"], measured["wsd"]
    three = {SIZES[size]: (found, "pred_e") for size, found in mpl["three"].items()}
    finals = {SETS[train]: (found, "final_mape") for train, found in wsd.items()}
    single = {
        f"{SIZES[size]}, {way}": (mpl[protocol][size], "pred_e")
        for size in SIZES
        for protocol, way in WAYS.items()
    }
    sets = {**three, **single, **finals}
    return {
        "main": pairs({**three, **finals}),
        "single": pairs(single),
        "ratio": ratio(wsd["five"]),
        "kinds": kinds(wsd["five"]),
        "choice": choice(sets),
        "stacks": stacks(sets),
    }


def pairs(sets: Mapping[str, tuple[Any, str]]) -> str:
    """Error on hidden and on test losses of every law, for each set of runs."""
    rows = [
        [f"`{law}`", *(f"{percent(laws[law], 'held_out_error')} / {percent(laws[law], key)}"
                       for laws, key in ((found["laws"], key) for found, key in sets.values()))]
        for law in names(found for found, _ in sets.values())
    ]  # fmt: skip
    return markdown(["law", *sets], rows)


def ratio(found: Any) -> str:
    """What the laws say of the annealing ratio, and how often their bands hold."""
    columns = {
        "ratio off by": ("ratio_mean_abs_error", 1, 3), "recommended ratio off by": ("ratio_argmin_abs_error", 1, 3),
        "cost of the recommended ratio, nats": ("ratio_excess_loss", 1, 4),
        "final losses within the 90 % band, %": ("coverage_90", 100, 0),
    }  # fmt: skip
    rows = [
        [
            f"`{law}`",
            *(number(found["laws"][law].get(key), scale, digits) for key, scale, digits in columns.values()),
        ]
        for law in names([found])
    ]
    return markdown(["law", *columns], rows)


def kinds(found: Any) -> str:
    """Error on hidden losses by what was hidden."""
    rows = [
        [f"`{law}`", *(percent(found["laws"][law]["held_out_by_kind"], kind) for kind in KINDS)]
        for law in names([found])
    ]
    return markdown(["law", *KINDS.values()], rows)


def choice(sets: Mapping[str, tuple[Any, str]]) -> str:
    """Which law was chosen on every set, and which others would have been by one error or the other."""
    rows = []
    for name, (found, key) in sets.items():
        laws, chosen = found["laws"], found["chosen"]
        hidden, test = (min(laws, key=lambda law: laws[law][by]) for by in ("held_out_error", key))
        rows.append([
            name, f"`{chosen}`", percent(laws[chosen], "held_out_error"), percent(laws[chosen], key),
            f"`{hidden}` {percent(laws[hidden], 'held_out_error')}", f"`{test}` {percent(laws[test], key)}",
        ])  # fmt: skip
    header = ["runs", "chosen", "hidden", "test", "smallest hidden", "smallest test"]
    return markdown(header, rows)


def stacks(sets: Mapping[str, tuple[Any, str]]) -> str:
    """What a stack of the laws does on every set, beside one law."""
    rows = []
    for name, (found, key) in sets.items():
        if stack := found.get("stack"):
            members = sorted(stack["weights"].items(), key=lambda pair: -pair[1])
            rows.append([
                name, ", ".join(f"{weight:.2f} `{law}`" for law, weight in members if weight >= 0.05),
                percent(stack, "held_out_error"), percent(stack, "single_held_out_error"), percent(stack, key),
                percent(found["laws"][found["chosen"]], key),
            ])  # fmt: skip
    header = [
        "runs",
        "weights of .05 or more",
        "hidden, stack",
        "hidden, one law",
        "test, stack",
        "test, chosen law",
    ]
    return markdown(header, rows)


def names(found: Iterable[Any]) -> list[str]:
    """Laws that all of `found` have, in the order of the table of laws."""
    every = [set(one["laws"]) for one in found]
    return [law.name for law in one_size_laws() if all(law.name in some for some in every)]


def percent(row: Mapping[str, Any], key: str) -> str:
    """A fraction as %, with three digits below 1 and two above."""
    value = row.get(key)
    return number(value, 100, 3 if value is not None and value < 0.01 else 2)


def number(value: float | None, scale: float, digits: int) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{scale * value:.{digits}f}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rewrite(text: str, parts: Mapping[str, str]) -> str:
    """Put every table between its markers; all of them must be there."""
    for name, table in parts.items():
        marked = re.compile(rf"(<!-- measured: {name} -->\n).*?(\n<!-- end -->)", re.S)
        text, count = marked.subn(lambda match, table=table: match[1] + table + match[2], text)
        if count != 1:
            raise SystemExit(
                f"{DOCUMENT.name} must have the marker <!-- measured: {name} --> once, not {count} times"
            )
    return text


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    measured = measure(Path(os.environ.get("LEHR_DATA", "../shared/data")))
    if args.json:
        print(json.dumps(measured, indent=1))
        return
    old = DOCUMENT.read_text()
    new = rewrite(old, tables(measured))
    if not args.check:
        DOCUMENT.write_text(new)
        print(f"{DOCUMENT.name}: {'rewritten' if new != old else 'as it was'}")
        return
    change = difflib.unified_diff(old.splitlines(), new.splitlines(), "document", "measured", lineterm="")
    print("\n".join(change) or f"{DOCUMENT.name} holds what was measured")
    sys.exit(new != old)


if __name__ == "__main__":
    main()
