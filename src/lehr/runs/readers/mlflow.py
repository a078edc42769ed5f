"""What MLflow's two stores have in common: how a run is named and made a log.

A step in MLflow is whatever the training gave to `log_metric(key, value, step)`; it is taken as the number of updates
done. Where Hugging Face's Trainer logged (its settings are among the params), its numbers are placed as
`hugging_face` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lehr.runs.readers import hugging_face
from lehr.runs.readers.flat_yaml import Scalar, typed
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.trainer_schedule import trainer_schedule


def log(
    source: str, name: str, series: dict[str, Series], params: Mapping[str, str], report: Iterable[str] = ()
) -> Log:
    """Make a log of a run's metrics and params."""
    config: dict[str, Scalar] = {key: typed(value) for key, value in params.items()}
    told = list(report)
    roles: dict[str, str] = {}
    schedule = None
    if isinstance(config.get("transformers_version"), str) and "loss" in series:
        config |= hugging_face.totals(series)
        lr = series.get("learning_rate")
        schedule = trainer_schedule(config)
        after, why = hugging_face.lr_is_next(config["transformers_version"], {}, lr)
        series = hugging_face.moved(series, "loss", "learning_rate", after)
        told += [f"logged by Hugging Face's Trainer: {why}; loss is the mean since the log before"]
        found = {
            "train": "loss",
            "val": "eval_loss",
            "lr": "learning_rate",
            "tokens": "num_input_tokens_seen",
        }
        roles = {role: metric for role, metric in found.items() if metric in series}
    still = [key for key, one in series.items() if one.step.size > 1 and not np.ptp(one.step)]
    if still:
        told.append(f"logged without steps: {', '.join(sorted(still)[:10])}")
    return Log(
        source=source, name=name, series=series, config=config, schedule=schedule, roles=roles, report=tuple(told)
    )  # fmt: skip
