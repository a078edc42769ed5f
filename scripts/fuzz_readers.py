"""Feed mutated files to a reader, guided by coverage, until something other than a refusal comes out.

    pip install atheris
    python scripts/fuzz_readers.py FORMAT --seconds 600 [--corpus DIR]

Each input is written to a file and read as FORMAT, whatever it is: recognised, read, joined and made into runs. An
`InputError` is the right answer to a file that cannot be read; any other exception, or an input that takes over ten
seconds or 2 GB, is a fault and is kept. Starts from the samples in `tests/runs/samples/FORMAT` and from what earlier
calls found in DIR. Inputs that were once faults are kept as `fault-*` among those samples, which the tests read.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import atheris

SAMPLES = Path(__file__).parent.parent / "tests" / "runs" / "samples"

with atheris.instrument_imports(include=["lehr.runs"]):
    from lehr.errors import InputError
    from lehr.runs.readers import FORMATS, read_all


def main() -> None:
    """Fuzz one format from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "format", choices=sorted(name for name, each in FORMATS.items() if not (each.folder or each.address))
    )
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "lehr-fuzz")
    args = parser.parse_args()
    corpus, faults = args.corpus / args.format, args.corpus / f"{args.format}-faults"
    corpus.mkdir(parents=True, exist_ok=True)
    faults.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)) / "log"
    known = FORMATS[args.format]

    def one(data: bytes) -> None:
        path.write_bytes(data)
        known.sniff(path)
        try:
            read_all([path], format=args.format)
        except InputError:
            pass

    seeds = [str(SAMPLES / args.format)] if (SAMPLES / args.format).is_dir() else []
    limits = [f"-max_total_time={args.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={faults}/", str(corpus), *seeds], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
