"""What one proxy training is: model, data, optimiser, training loop, and the run it branches from.

The value of a TOML file, checked once; everything after it may rely on it. Nothing here needs torch.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from lehr.errors import InputError, unknown
from lehr.schedule.schedule import Schedule
from lehr.schedule.spec import parse
from lehr.transfer.roles import Group

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Part(BaseModel):
    """A table of the file: frozen, no conversion of types, no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, values: Any) -> Any:
        """TOML and JSON have lists, a frozen value has tuples."""
        return _with_tuples(values) if isinstance(values, dict) else values


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    return tuple(_with_tuples(each) for each in value) if isinstance(value, list) else value


class Experts(Part):
    """Mixture-of-experts feed-forward, in every block; `[model.experts]`.

    Parameters
    ----------
    count : experts that the router chooses from.
    top_k : experts a token goes to.
    width : hidden width of one expert; by default `ffn_width / (top_k + shared)`, so that as much is active as
        in the dense model.
    shared : experts that every token goes to beside those chosen.
    router : how logits become weights: softmax over all experts, then renormalised over the chosen
        (Mixtral, Qwen3-MoE), or a sigmoid each, renormalised (DeepSeek-V3). With `top_k` 1 the score itself is the
        weight (Switch, eq. 2): renormalised it would always be 1, and the router would learn nothing.
    balance : how load is levelled: an auxiliary loss (Switch Transformer, eq. 4), a bias on the choice that is moved
        against the load after every update (DeepSeek-V3), or not at all.
    balance_weight : factor of the auxiliary loss, by default .01, or the step by which the bias moves, by default .001.
    z_loss : factor of the squared log-sum-exp of the router's logits (ST-MoE, eq. 5).
    """

    count: Annotated[int, Field(ge=2)]
    top_k: Count = 2
    width: Count | None = None
    shared: Annotated[int, Field(ge=0)] = 0
    router: Literal["softmax", "sigmoid"] = "softmax"
    balance: Literal["loss", "bias", "none"] = "loss"
    balance_weight: NotNegative = 0.01
    z_loss: NotNegative = 0.001

    @model_validator(mode="before")
    @classmethod
    def _weight_of_the_balance(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("balance") == "bias":
            return {"balance_weight": 0.001, **values}
        return values

    @model_validator(mode="after")
    def _chosen_of(self) -> Self:
        if self.top_k > self.count:
            raise ValueError(f"top_k must be at most count ({self.count}), got {self.top_k}")
        return self


class Model(Part):
    """Decoder-only transformer; `[model]`.

    Parameters
    ----------
    depth : blocks.
    width : of the residual stream.
    heads : of the attention; must divide `width` into an even head width.
    context : tokens of a training sequence.
    ffn_width : hidden width of the SwiGLU feed-forward; by default 8/3 of `width`, rounded up to a multiple of 8.
    qk_norm : whether queries and keys are normalised.
    tied : whether the head is the embedding.
    init_std : standard deviation of the initial weights; those that write to the residual stream get
        it divided by sqrt(2 depth).
    rope_base : of the rotary positions.
    experts : None for a dense model.
    """

    depth: Count
    width: Count
    heads: Count
    context: Annotated[int, Field(ge=2)]
    ffn_width: Count | None = None
    qk_norm: bool = True
    tied: bool = False
    init_std: Positive = 0.02
    rope_base: Positive = 10000.0
    experts: Experts | None = None

    @model_validator(mode="after")
    def _even_heads(self) -> Self:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"heads must divide width ({self.width}) into an even head width, got {self.heads}"
            )
        return self

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward that a token passes, shared experts included."""
        return self.ffn_width or 8 * -(-self.width // 3)

    @property
    def expert_hidden(self) -> int:
        """Hidden width of one expert."""
        if self.experts is None:
            return self.hidden
        return self.experts.width or max(1, self.hidden // (self.experts.top_k + self.experts.shared))


class Data(Part):
    """What is trained on; `[data]`.

    Parameters
    ----------
    kind : "synthetic", lehr's own language of known entropy rate; "text", files and folders; "tokens", packed files.
    paths : files or folders of text, or packed token files (nanoGPT's .bin of uint16, or .npy).
    tokenizer : for text: bytes, or a BPE trained on it.
    vocab_size : words of the synthetic language, or of the BPE; packed files need it too. Bytes have 257.
    seed : of the language and of the order.
    validation : share of the text or tokens held back, at the end of every file; or `validation_paths`.
    validation_paths : files for validation alone.
    """

    kind: Literal["synthetic", "text", "tokens"] = "synthetic"
    paths: tuple[str, ...] = ()
    tokenizer: Literal["bytes", "bpe"] = "bytes"
    vocab_size: Annotated[int, Field(ge=2, le=1 << 20)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    validation: Share = 0.05
    validation_paths: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _paths_where_read(self) -> Self:
        if (self.kind == "synthetic") == bool(self.paths):
            rule = (
                "must be empty for synthetic data"
                if self.paths
                else f"must name files for kind {self.kind!r}"
            )
            raise ValueError(f"paths {rule}, got {list(self.paths)}")
        if self.kind == "tokens" and self.vocab_size is None:
            raise ValueError("vocab_size must be given for packed tokens: the files do not tell it")
        return self


class Optimizer(Part):
    """AdamW; `[optimizer]`.

    Parameters
    ----------
    beta1, beta2, epsilon : of Adam.
    weight_decay : coefficient of the decay of every matrix (norms are not decayed).
    independent : whether the decay is `weight_decay` times the schedule's share of its peak LR, whatever the peak
        (Wortsman et al., arXiv 2309.14322), in place of PyTorch's LR times `weight_decay`.
    clip : largest norm of the gradient; None for no clipping.
    lr_factors : by group of parameters (`lehr.transfer.roles.GROUPS`), what the schedule's LR is multiplied by; others
        have 1. What an update takes of a weight by decay stays as it is. Tuned at the base of a rule of transfer, which
        carries them over (arXiv 2203.03466, appendix F; 2512.22382).
    """

    beta1: Share = 0.9
    beta2: Share = 0.95
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 0.1
    independent: bool = False
    clip: Positive | None = 1.0
    lr_factors: dict[Group, Positive] = {}

    @model_serializer(mode="wrap")
    def _without_factors_of_one(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As before there were any, so that addresses and logs of runs without are what they were."""
        told: dict[str, Any] = handler(self)
        if not self.lr_factors:
            del told["lr_factors"]
        return told


class Training(Part):
    """The loop; `[training]`.

    Parameters
    ----------
    schedule : spec of the LR, such as "wsd(steps=2000, peak=3e-3, warmup=100, decay=400)"; its steps are the run's.
    batch : sequences an update, over all ranks and accumulated parts.
    accumulate : parts that the batch of each rank is cut into.
    seed : of the initial weights.
    precision : "float32", or "bfloat16" by autocast (master weights stay float32).
    compile : whether the model is compiled.
    parallel : how ranks share the work under torchrun.
    validate_every, validate_sequences : updates between two validations, and their size.
    checkpoint_every : updates between two checkpoints; None for one at the end.
    keep : numbers of updates whose checkpoints are kept to branch from; of others the last two are.
    """

    schedule: str
    batch: Count
    accumulate: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    validate_every: Count = 50
    validate_sequences: Count = 64
    checkpoint_every: Count | None = None
    keep: tuple[Count, ...] = ()

    @property
    def plan(self) -> Schedule:
        """The schedule itself."""
        return parse(self.schedule)


class Branch(Part):
    """The run that this one goes on from; `[branch]`.

    Parameters
    ----------
    run : folder of the parent.
    step : updates done by the parent at the checkpoint that is gone on from.
    """

    run: str
    step: Count


class Base(Part):
    """The small training whose hyperparameters are carried over; `[transfer.base]`.

    Parameters
    ----------
    model : its `[model]` table.
    batch : sequences an update; by default as here.
    steps : updates; by default as here.
    """

    model: Model
    batch: Count | None = None
    steps: Count | None = None


class Transfer(Part):
    """Hyperparameters by a rule of transfer; `[transfer]`. Everything else in the file that is tuned is the base's.

    The schedule's LR and `[optimizer]` are those of the base: each module's LR is the schedule's times a factor that
    the rule gives, and its weight decay, epsilon, betas and initial weights follow likewise.

    Parameters
    ----------
    rule : name of the rule, such as "completep".
    base : what the hyperparameters were tuned for.
    weight_decay : how decay is carried over (`lehr.transfer.plan.transfer`); by default "independent" where
        `optimizer.independent` is set, otherwise "rule".
    horizon : name of a rule for tokens and batch; None for the rule's own, if any.
    treat : groups that the rule does not know, and as which group to treat them.
    """

    rule: str
    base: Base
    weight_decay: Literal["rule", "independent", "timescale"] | None = None
    horizon: str | None = None
    treat: dict[str, str] = {}


class TrainConfig(Part):
    """One training: the tables of the file.

    Parameters
    ----------
    name : of the run.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    model: Model
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    training: Training
    branch: Branch | None = None
    transfer: Transfer | None = None

    @property
    def batch_tokens(self) -> int:
        """Tokens an update."""
        return self.training.batch * self.model.context


def load_config(path: str | Path) -> TrainConfig:
    """Read a TOML file.

    Raises
    ------
    InputError
        If the file is missing, no TOML, or a key is unknown, missing or wrong; the message names file and key.
    """
    return make_config(read_toml(Path(path)), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises
    ------
    InputError
        If it is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give the path of a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from None


def make_config(values: dict[str, Any], source: str = "the configuration") -> TrainConfig:
    """Check a dictionary, such as one read from TOML or from a run log.

    Raises
    ------
    InputError
        Naming `source`, the key, the rule and the value.
    """
    try:
        config = TrainConfig.model_validate(values)
        config.training.plan  # noqa: B018  # a spec that cannot be parsed is refused here
    except ValidationError as error:
        raise _refused(error, source) from None
    except InputError as error:
        raise InputError(f"{source}: training.schedule: {error}") from None
    return config


def _refused(error: ValidationError, source: str) -> InputError:
    found = error.errors()
    # a misspelt key is also a missing one: the spelling helps more
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        part = _part(first["loc"][:-1])
        return InputError(f"{source}: {unknown(f'key of [{part[0]}]', str(first['loc'][-1]), part[1])}")
    if first["type"] == "missing":
        return InputError(f"{source}: {where} is missing: give it.")
    rule = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "value_error":
        return InputError(f"{source}: {where}: {rule}.")
    return InputError(f"{source}: {where} must be {rule}, got {first['input']!r}: correct it.")


def _part(location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Name and keys of the table at `location`."""
    table: type[BaseModel] = TrainConfig
    nested: dict[str, type[BaseModel]] = {
        "model": Model, "data": Data, "optimizer": Optimizer, "training": Training, "branch": Branch,
        "experts": Experts, "transfer": Transfer, "base": Base,
    }  # fmt: skip
    for key in location:
        table = nested.get(str(key), table)
    return ".".join(map(str, location)) or "top level", list(table.model_fields)
