"""`brainalign timecourse`: when, in the epoch around a word, is which layer there?"""

import dataclasses
from typing import Any

from brainalign_jax.commands.align import (
    CHOICES,
    COMPUTATION,
    DRAW_SEED,
    EMBEDDING,
    OPTIONS,
    PROGRESS,
    PROTOCOL,
    SCORING,
    SIDES,
    open_data,
)
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import misuse
from brainalign_jax.embedding import Embedding
from brainalign_jax.options import filled, options_of, picked
from brainalign_jax.studies.options import TimeCourse
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import Scoring

_PLAN = options_of(TimeCourse, PROTOCOL)
# A window is one of time here; that of words before a word has another name.
_CONTEXT = picked(EMBEDDING, "window", name="context_window", field="window")
_EMBEDDING = (*(option for option in EMBEDDING if option.name != "window"), *_CONTEXT)
_SCORING = (*picked(SCORING, "layers", "lower"), *DRAW_SEED)
_PROTOCOL = picked(CHOICES, "n_folds", "purge", "hold_out_types", "rdm_metric", "rdm_comparison")
_COMPUTATION = picked(COMPUTATION, "dtype", "threads")

TIMECOURSE_OPTIONS = (
    *(option for option in SIDES if option.name != "window"),
    *_CONTEXT,
    *_SCORING,
    *_PLAN,
    *_PROTOCOL,
    *_COMPUTATION,
    *picked(OPTIONS, "cache_dir"),
    PROGRESS,
)


def _timecourse(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.timecourse import run_timecourse
    from brainalign_jax.study.protocol import protocol

    with misuse():
        plan = filled(TimeCourse, _PLAN, values)
        scoring = filled(Scoring, _SCORING, values)
    data = open_data(values)
    chosen = protocol(
        "audited",
        timed=data.stimulus.onsets is not None,
        grouped=data.stimulus.run is not None,
        **{option.field: values[option.name] for option in _PROTOCOL},
    )
    table = run_timecourse(
        data,
        values["models"],
        values["output_dir"],
        plan=plan,
        scoring=dataclasses.replace(scoring, protocol=chosen),
        embedding=filled(Embedding, _EMBEDDING, values),
        computation=filled(Computation, _COMPUTATION, values),
        cache_dir=values["cache_dir"],
        command=text,
        progress=values["progress"],
    )
    say_finished(table.verdict(), values["output_dir"])


TIMECOURSE = Command(
    "timecourse",
    "when is which layer there: decoding, RSA and encoding over the epochs around words, with a verdict",
    (
        "timecourse --dataset=epochs --data_dir=my_epochs --models=gpt2 --output_dir=out/timecourse",
        "timecourse --dataset=mne --data_dir=meg --reader_options=words=words.tsv,picks=mag --models=gpt2 "
        "--window=0.05 --step=0.025 --generalise_time --output_dir=out/meg",
    ),
    TIMECOURSE_OPTIONS,
    _timecourse,
)
