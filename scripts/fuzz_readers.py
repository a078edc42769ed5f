"""Feed mutated files to a reader, guided by coverage, until something other than a refusal comes out.

    pip install atheris
    python scripts/fuzz_readers.py FORMAT --seconds 600 [--corpus DIR]

Each input is written to a file and read as FORMAT, whatever it is; of one in sixteen the logs are also joined and made
into runs, which is the same for all formats and takes many times longer. FORMAT "any" asks every format whether it
recognises the file. Checksums are put right in half of the inputs, which would be refused at the first of them. An
`InputError` is the right answer to a file that cannot be read; any other exception, or an input that takes over ten
seconds or 2 GB, is a fault and is kept. Starts from the samples in `tests/runs/samples/FORMAT` and from what earlier
calls found in DIR. Inputs that were once faults are kept as `fault-*` among those samples, which the tests read.
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import atheris

SAMPLES = Path(__file__).parent.parent / "tests" / "runs" / "samples"

with atheris.instrument_imports(include=["lehr.runs"]):
    from lehr.errors import InputError
    from lehr.runs.readers import FORMATS, read_all
    from lehr.runs.readers.crc import masked_crc32c
    from lehr.runs.readers.reading import ReadOptions
    from lehr.runs.readers.table import looks_like_a_run

FILES = {name: known for name, known in FORMATS.items() if not (known.folder or known.address)}


def mended(data: bytes, format: str) -> bytes:
    """Return a file with the right checksums, as far as its records go."""
    out, at = bytearray(data), 7 if format == "wandb-offline" else 0
    while format == "tensorboard" and at + 16 <= len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        struct.pack_into("<I", out, at + 8, masked_crc32c(data[at : at + 8]))
        if size > len(data) - at - 16:
            break
        struct.pack_into("<I", out, at + 12 + size, masked_crc32c(data[at + 12 : at + 12 + size]))
        at += size + 16
    while format == "wandb-offline" and at + 7 <= len(data):
        (size,) = struct.unpack_from("<H", data, at + 4)
        struct.pack_into("<I", out, at, zlib.crc32(data[at + 6 : at + 7 + size]))
        at += 7 + size
    return bytes(out)


def check(path: Path, format: str, whole: bool) -> None:
    """Read a file as a format, or ask all formats about it; make runs of it too if `whole`."""
    if format == "any":
        for known in FILES.values():
            known.sniff(path)
        looks_like_a_run(path)
        return
    known = FILES[format]
    known.sniff(path)
    if whole or known.logs is None:
        read_all([path], format=format)
    else:
        list(known.logs(path, ReadOptions()))


def main() -> None:
    """Fuzz one format from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("format", choices=[*FILES, "any"])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "lehr-fuzz")
    args = parser.parse_args()
    corpus, faults = args.corpus / args.format, args.corpus / f"{args.format}-faults"
    corpus.mkdir(parents=True, exist_ok=True)
    faults.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)) / "log"

    def one(data: bytes) -> None:
        code = zlib.crc32(data)
        data = mended(data, args.format) if code & 16 else data
        path.write_bytes(data)
        try:
            check(path, args.format, code % 16 == 0)
        except InputError:
            pass
        except Exception:
            (faults / f"fault-{code:08x}").write_bytes(data)  # what the fuzzer keeps has the old checksums
            raise

    seeds = [str(each) for each in SAMPLES.iterdir() if each.name == args.format or args.format == "any"]
    limits = [f"-max_total_time={args.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={faults}/", str(corpus), *seeds], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
