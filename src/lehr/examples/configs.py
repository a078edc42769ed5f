"""What the bundled runs are: every training as a configuration, parents before their branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lehr.proxy.config import Experts, Model, TrainConfig, make_config

CONTEXT, BATCH, WARMUP, SEED = 128, 8, 100, 1
VALIDATION = 256  # sequences: 32,768 tokens
SMALL: dict[str, Any] = {"context": CONTEXT}
EXPERTS = Experts(count=8, top_k=2)
MODELS = {
    "XS": Model(depth=2, width=32, heads=2, **SMALL),
    "S": Model(depth=3, width=64, heads=2, **SMALL),
    "M": Model(depth=4, width=96, heads=3, **SMALL),
    "L": Model(depth=4, width=128, heads=4, **SMALL),
    "ES": Model(depth=3, width=64, heads=2, experts=EXPERTS, **SMALL),
    "EM": Model(depth=4, width=96, heads=3, experts=EXPERTS, **SMALL),
}
MODELS |= {f"{size}64": MODELS[size] for size in ("XS", "M")}  # on the language of 64 words
WORDS = {"XS64": 64, "M64": 64}
PEAKS = ("7.5e-4", "1.5e-3", "3e-3", "6e-3")
LONG = ("M", "L", "ES", "EM")
RATIOS = (0.1, 0.2, 0.4, 0.6)


def bundled() -> list[TrainConfig]:
    """Return the configurations of all bundled runs."""
    found: list[TrainConfig] = []
    for peak in PEAKS:
        found += family("S", peak, 2000, (*RATIOS, 0.8), shapes=(0.2,), cosine=0.1)
        found += family("S", peak, 1000, (0.2, 0.4, 0.6), trunk=2000, cosine=0.0)
        found += family("S", peak, 1000, (0.1,), constant=False)
    found += family("S", "3e-3", 2000, (0.2,), seed=2)
    for batch in (4, 16, 32):
        found += family("S", "3e-3", 1500, (0.2, 0.4), batch=batch)
    found += family("S", "3e-3", 1500, (0.2, 0.4), trunk=2000)
    for size in ("XS", "M", "L"):
        found += family(size, "3e-3", 2000, RATIOS, cosine=0.1)
        found += family(size, "3e-3", 1000, (), trunk=2000, cosine=0.0)
    for peak in PEAKS[1:3]:
        found += family("ES", peak, 2000, RATIOS, shapes=(0.2,), cosine=0.1)
        found += family("ES", peak, 1000, (0.2, 0.4), trunk=2000, cosine=0.0)
    found += family("EM", "3e-3", 2000, RATIOS, cosine=0.1)
    found += family("EM", "3e-3", 1000, (), trunk=2000, cosine=0.0)
    return with_branch_points([*found, *long_runs(), *batch_runs(), *floor_runs()])


def long_runs() -> list[TrainConfig]:
    """Return longer runs, whose first tenth is past most of the early updates."""
    found: list[TrainConfig] = []
    for size in LONG:
        rare: dict[str, Any] = {"validate_every": 100}
        found += family(size, "1.5e-3", 10_000, (0.2, 0.4), cosine=0.1, **rare)
        found += family(size, "1.5e-3", 5000, (), trunk=10_000, cosine=0.0, **rare)
    return with_branch_points(found)


def batch_runs() -> list[TrainConfig]:
    """Return the smallest model at batches up to where curves lie on each other in updates."""
    found: list[TrainConfig] = []
    for batch in (4, 8, 16, 32, 64, 128, 256, 512, 1024):
        found += family("XS64", "3e-3", 400, (0.2,), batch=batch, validate_every=10)
    return with_branch_points(found)


def floor_runs() -> list[TrainConfig]:
    """Return runs on a language of few words, which come near its entropy."""
    long = family("M64", "3e-3", 8000, (0.2, 0.4))
    return with_branch_points([*long, *family("M64", "3e-3", 4000, (0.2,), trunk=8000)])


def minimal() -> list[TrainConfig]:
    """Return the configurations that `lehr demo --from-scratch` trains: five to fit, five to test."""
    low = family("XS", "1.5e-3", 1200, (0.2, 0.4))
    high = family("XS", "3e-3", 1200, (0.2, 0.4, 0.6), cosine=0.1)
    short = family("XS", "3e-3", 600, (0.4,), trunk=1200)
    return with_branch_points([*low, *high, *short])


def with_branch_points(configs: list[TrainConfig]) -> list[TrainConfig]:
    """Tell every parent at which updates its branches begin, so that it keeps those checkpoints."""
    steps: dict[str, set[int]] = {}
    for config in configs:
        if config.branch:
            steps.setdefault(config.branch.run, set()).add(config.branch.step)

    def keeping(config: TrainConfig) -> TrainConfig:
        keep = tuple(sorted(steps.get(config.name, ())))
        return config.model_copy(update={"training": config.training.model_copy(update={"keep": keep})})

    return [keeping(config) for config in configs]


def family(
    size: str, peak: str, steps: int, ratios: tuple[float, ...], *, shapes: tuple[float, ...] = (),
    cosine: float | None = None, batch: int = BATCH, seed: int = SEED, trunk: int | None = None,
    constant: bool = True, validate_every: int = 50,
) -> Iterator[TrainConfig]:  # fmt: skip
    """Yield one constant run, linear cooldowns branched from it, and a cosine run.

    Parameters
    ----------
    size : key of `MODELS`.
    peak : LR as text, which names carry.
    steps : updates of every run.
    ratios : annealing ratios of the linear cooldowns.
    shapes : annealing ratios of cooldowns that fall as 1 - sqrt.
    cosine : end of a cosine run as a fraction of the peak; None for no such run.
    batch, seed : sequences an update, seed of the initial weights.
    trunk : updates of a constant run already made, to branch from.
    constant : whether there is a constant run; without, each decaying run starts from the beginning.
    validate_every : updates between two validations.
    """
    tail = (f"-b{batch * CONTEXT}" if batch != BATCH else "") + (f"-seed{seed}" if seed != SEED else "")
    rest: dict[str, Any] = {"size": size, "batch": batch, "seed": seed, "every": validate_every}
    stem = f"{size}-{peak}"
    parent = f"{stem}-constant-{trunk or steps}{tail}"
    forks = [("wsd", "linear", r) for r in ratios] + [("wsdsqrt", "sqrt", r) for r in shapes]
    if trunk is None and constant:
        yield _config(parent, f"constant(steps={steps}, peak={peak}, warmup={WARMUP})", **rest)
    for name, shape, ratio in forks:
        decay = round(ratio * steps)
        yield _config(
            f"{stem}-{name}-r{ratio:g}-{steps}{tail}",
            f"wsd(steps={steps}, peak={peak}, warmup={WARMUP}, decay={decay}, shape={shape})",
            **rest, branch={"run": parent, "step": steps - decay} if constant else None,
        )  # fmt: skip
    if cosine is not None:
        final = cosine * float(peak)
        yield _config(
            f"{stem}-cosine{round(100 * cosine)}-{steps}{tail}",
            f"cosine(steps={steps}, peak={peak}, warmup={WARMUP}, final={final:g})",
            **rest,
        )


def _config(
    name: str,
    spec: str,
    *,
    size: str,
    batch: int,
    seed: int,
    every: int,
    branch: dict[str, Any] | None = None,
) -> TrainConfig:
    values: dict[str, Any] = {
        "name": name,
        "model": MODELS[size].model_dump(),
        "data": {"kind": "synthetic"} | ({"vocab_size": WORDS[size]} if size in WORDS else {}),
        "training": {
            "schedule": spec,
            "batch": batch,
            "seed": seed,
            "validate_every": every,
            "validate_sequences": VALIDATION,
        },
    }
    return make_config(values | ({"branch": branch} if branch else {}), name)
