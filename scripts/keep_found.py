"""Keep what a search found: the few inputs that take a reader to lines, or from line to line, as its sample does not.

    python scripts/keep_found.py CORPUS [FORMAT ...]

CORPUS is that of `fuzz_readers.py`. They go to `tests/runs/samples/FORMAT/found-N`, in place of what was there:
at most twelve inputs of less than 2 KB a format, the one that adds the most first, beyond what the sample itself
does, whole and cut off at forty places.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from lehr.errors import InputError
from lehr.runs.readers import FORMATS, read_all
from lehr.runs.readers.reading import ReadOptions

SAMPLES = Path(__file__).parent.parent / "tests" / "runs" / "samples"
MOST, SIZE, CUTS = 12, 2048, 40
Ways = set[tuple[str, int, int]]  # file, a line, and the next one


def ways(call: Callable[[], object]) -> Ways:
    """Run a call and return the ways it took within the readers."""
    found: Ways = set()

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if "/lehr/runs/" not in file:
            return None
        before = 0

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            found.add((file, before, frame.f_lineno))
            before = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        call()
    except InputError:
        pass
    finally:
        sys.settrace(None)
    return found


def of_bytes(data: bytes, format: str, place: Path) -> Ways:
    """Ways that reading takes through a file of these bytes."""
    place.write_bytes(data)
    known = FORMATS[format]
    if known.logs is None:
        return ways(lambda: read_all([place], format=format))
    logs = known.logs
    return ways(lambda: list(logs(place, ReadOptions())))


def keep(format: str, corpus: Path) -> None:
    """Keep the best inputs of one format."""
    for old in (SAMPLES / format).glob("found-*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        place, known = Path(folder) / "log", set()
        for sample in sorted((SAMPLES / format).iterdir()):
            data = sample.read_bytes()
            for size in {len(data) * part // CUTS for part in range(1, CUTS + 1)}:
                known |= of_bytes(data[:size], format, place)
        inputs = [
            path.read_bytes() for path in sorted((corpus / format).iterdir()) if path.stat().st_size < SIZE
        ]
        reached = {data: of_bytes(data, format, place) for data in sorted(inputs, key=len)}
    for number in range(1, MOST + 1):
        best = max(reached, key=lambda data: len(reached[data] - known), default=b"")
        if not best or not reached[best] - known:
            break
        known |= reached[best]
        (SAMPLES / format / f"found-{number:02d}").write_bytes(best)
    kept = list((SAMPLES / format).glob("found-*"))
    print(f"{format}: {len(kept)} of {len(reached)} kept, {sum(path.stat().st_size for path in kept)} bytes")


def main() -> None:
    """Keep what was found, from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("formats", nargs="*", metavar="FORMAT")
    args = parser.parse_args()
    for name, known in FORMATS.items():
        if (args.corpus / name).is_dir() and not known.folder and (not args.formats or name in args.formats):
            keep(name, args.corpus)


if __name__ == "__main__":
    main()
