"""What may be asked of the studio: the bodies of its questions, checked by type."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(max_length=100_000)]
Name = Annotated[str, Field(max_length=500)]


class Question(BaseModel):
    """Numbers are finite, and names that are no part of a question are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class FitQuestion(Question):
    """Fit laws to runs."""

    runs: Annotated[list[Name], Field(min_length=1, max_length=2000)]
    laws: Annotated[list[Name], Field(min_length=1)] | Literal["all"] = "all"
    draws: Annotated[int, Field(ge=0, le=1000)] = 100


class Sizes(Question):
    """Sizes of the planned run; by default as fitted."""

    params: float | None = None
    params_total: float | None = None
    batch_tokens: float | None = None
    weight_decay: float | None = None
    data: Name | None = None


class PredictQuestion(Sizes):
    """Predict curves by all fitted laws, or those named; a quick band is approximate (`lehr.studio.quick`)."""

    fit: Name
    laws: list[Name] | None = None
    schedule: Text
    points: int = 200
    level: float = 0.9
    band: Literal["exact", "quick"] = "exact"


class DrawnQuestion(Question):
    """A schedule drawn by points of update and LR."""

    points: Annotated[list[tuple[float, float]], Field(max_length=1000)]
    steps: int


class ScheduleQuestion(Question):
    """A schedule as text."""

    schedule: Text
    points: int = 200


class PlanQuestion(Question):
    """The annealing ratio of a planned run."""

    fit: Name
    law: Name | None = None
    steps: int
    peak: float | None = None
    warmup: int | None = None
    shape: Name | None = "linear"
    final: float | None = 0.0
    params: float | None = None
    params_total: float | None = None
    batch_tokens: float | None = None
    weight_decay: float | None = None
    data: Name | None = None
    level: float = 0.9


class OptimizeQuestion(Question):
    """The schedule of the lowest predicted final loss."""

    fit: Name
    law: Name | None = None
    steps: int
    peak: float
    warmup: int | None = None
    final: float = 0.0
    monotone: bool = True
    stairs: bool = False
    knots: Annotated[int, Field(le=200)] = 40
    params: float | None = None
    params_total: float | None = None
    batch_tokens: float | None = None
    weight_decay: float | None = None
    data: Name | None = None
    level: float = 0.9


class BranchQuestion(Question):
    """When to start the decay of a run in progress."""

    fit: Name
    law: Name | None = None
    run: Name
    target_loss: float | None = None
    deadline_steps: int | None = None
    horizon_steps: int | None = None
    shapes: Annotated[list[Name], Field(min_length=1, max_length=8)] | None = None
    final: float = 0.0
    weight_decay: float | None = None
    level: float = 0.9


class PeakQuestion(Question):
    """Peak LRs by published laws and by a fitted sweep; `level` is of the latter's interval."""

    params: float
    tokens: float
    batch_tokens: float | None = None
    active_params: float | None = None
    level: float = 0.9


class Side(Question):
    """A model and its training; `batch` in sequences."""

    width: int
    depth: int
    batch: float
    steps: float
    head_width: int = 64
    hidden: int | None = None
    experts: int = 0
    top_k: int = 0
    expert_hidden: int = 0
    tied: bool = False


class TunedSide(Side):
    """The tuned one, with its hyperparameters."""

    lr: float
    init_std: float = 0.02
    weight_decay: float = 0.1
    epsilon: float = 1e-8
    beta1: float = 0.9
    beta2: float = 0.95


class TransferQuestion(Question):
    """Hyperparameters of a larger model."""

    rule: Name = "completep"
    tuned: Annotated[TunedSide, Field(alias="from")]
    target: Annotated[Side, Field(alias="to")]
    weight_decay: Name = "rule"
    horizon: Name | None = None


class ExportQuestion(Question):
    """A schedule for a framework."""

    schedule: Text
    to: Name
    form: Name = "auto"
