"""The studies that a claim may ask for: their options, checked as they check them, and their tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from brainalign_jax.align.rsa import noise_ceiling, rsa
from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings, surprisal
from brainalign_jax.names import check_known
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.neural.responses import intersubject_correlation
from brainalign_jax.studies.encoding import encoding
from brainalign_jax.studies.encoding.table import COLUMNS as ENCODING_COLUMNS
from brainalign_jax.studies.options import VoxelEncoding
from brainalign_jax.study import results
from brainalign_jax.study.evidence import intervals, scaling, table
from brainalign_jax.study.evidence import rsa as rsa_evidence
from brainalign_jax.study.evidence.similarity import LAYER_COLUMNS
from brainalign_jax.study.options import EvidencePlan, Scoring
from brainalign_jax.study.protocol import PROTOCOLS, Protocol, protocol
from brainalign_jax.study.run import run_study

Model = str | Embeddings
Tables = dict[str, pd.DataFrame]


class Options(NamedTuple):
    """What a study is asked with: instances of its dataclasses by their class, and what is none's."""

    of: Mapping[type, Mapping[str, Any]]
    others: Mapping[str, Any]


@dataclass(frozen=True)
class AskedStudy:
    """A study that claims may name.

    tables: name -> columns. options: the dataclasses whose described fields are its options; others: name ->
    default of those that are no field. takes_models: whether it compares any. run: (data set, models,
    options, folder to write to or None, progress) -> its tables. check: raises ValueError for options that
    do not fit.
    """

    tables: Mapping[str, tuple[str, ...]]
    options: tuple[type, ...]
    others: Mapping[str, object]
    takes_models: bool
    run: Callable[[Dataset, Sequence[Model], Options, Path | None, bool], Tables]
    check: Callable[[Options], object]

    def asked(self, given: Mapping[str, Any]) -> Options:
        """The options as a claim file gives them, sorted by whose they are.

        Raises: ValueError for a name that is none, and for a value that the study refuses.
        """
        fields = {
            cls: {f.name for f in dataclasses.fields(cls) if "help" in f.metadata}
            for cls in self.options
        }
        known = [*self.others, *dict.fromkeys(name for names in fields.values() for name in names)]
        for name in given:
            check_known("option", name, known)
        plain = {name: _plain(value) for name, value in given.items()}
        asked = Options(
            {cls: {n: v for n, v in plain.items() if n in names} for cls, names in fields.items()},
            {**self.others, **{name: plain[name] for name in self.others if name in plain}},
        )
        self.check(asked)
        return asked


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list) else value


# A study of words: protocol, scoring, vectors and evidence.


def _check_align(asked: Options) -> None:
    check_known("protocol=", asked.others["protocol"], PROTOCOLS)
    _protocol(asked, timed=True, grouped=False, dataset="")
    Scoring(**asked.of[Scoring])
    Embedding(**asked.of[Embedding])
    if type(asked.others["evidence"]) is not bool:
        raise ValueError(f"evidence={asked.others['evidence']!r} must be true or false")
    plan = EvidencePlan(**asked.of[EvidencePlan])
    if not asked.others["evidence"] and asked.of[EvidencePlan]:
        name = next((name for name in asked.of[EvidencePlan] if name != "seed"), None)
        if name is not None:
            raise ValueError(f"{name}={getattr(plan, name)!r} is of evidence, which is false")


def _protocol(asked: Options, **words) -> Protocol:
    return protocol(str(asked.others["protocol"]), **words, **asked.of[Protocol])


def _align(dataset, models, asked, output, progress) -> Tables:
    words = dataset.stimulus
    chosen = _protocol(
        asked,
        timed=words.onsets is not None,
        grouped=words.run is not None,
        dataset=dataset.name,
    )
    scoring = Scoring(**{**asked.of[Scoring], "protocol": chosen})
    evidence = EvidencePlan(**asked.of[EvidencePlan]) if asked.others["evidence"] else None
    several = [_shipped(dataset, model) for model in models]
    scored = run_study(
        dataset,
        several,
        scoring,
        output,
        embedding=Embedding(**asked.of[Embedding]),
        evidence=evidence,
        report_k=10 if 10 in scoring.ks else scoring.ks[-1],
        progress=progress,
    )
    return {"results": scored.rows, **scored.extras}


_NEXT_WORD = ("dataset", "model", "method", "n_params", "score", "log_likelihood")


def _check_next_word(asked: Options) -> None:
    _check_align(asked)
    if not asked.others["evidence"]:
        raise ValueError("evidence=False leaves out the scores that next words are related to")


def _next_word(dataset, models, asked, output, progress) -> Tables:
    """`align`, and how well each model predicts the words: mean log-likelihood of a word, in nats.

    Both read the words in the same context.
    """
    read = Embedding(**asked.of[Embedding])
    read = {"context": read.context, "window": read.window, "bos": read.bos}
    likelihood = {}
    for model in models:
        if not isinstance(model, str) or model.startswith(RELEASED):
            raise ValueError("next words are predicted by language models: name checkpoints")
        likelihood[model] = -float(np.nanmean(surprisal(dataset.stimulus, model, **read)))
    tables = _align(dataset, models, asked, output, progress)
    rows = tables["evidence"]
    rows = rows[rows["role"] == "model"]
    rows = rows.assign(log_likelihood=rows["model"].map(likelihood))
    return {**tables, "next_word": rows[list(_NEXT_WORD)].reset_index(drop=True)}


def _shipped(dataset: Dataset, model: Model) -> Model:
    """The vectors of the release of that name, which a study otherwise takes as a control."""
    name = str(model).removeprefix(RELEASED) if isinstance(model, str) else ""
    if not isinstance(model, str) or not model.startswith(RELEASED):
        return model
    check_known("vectors", name, dataset.vectors, of=dataset.name)
    types, token_to_type = dataset.stimulus.types(lower=False)
    values = np.asarray(dataset.vectors[name], np.float64).reshape(len(token_to_type), -1)
    first = np.unique(np.asarray(token_to_type), return_index=True)[1]
    return Embeddings(model, types, values[first][None], None, {"family": "static"})


RELEASED = "released:"

# Time courses of voxels or regions.


def _check_encode(asked: Options) -> None:
    VoxelEncoding(**asked.of[VoxelEncoding])


def _encode(dataset, models, asked, output, progress) -> Tables:
    plan = VoxelEncoding(**asked.of[VoxelEncoding])
    encoded = encoding.run_encoding(dataset, models, output, plan=plan, progress=progress)
    return {"encoding": encoded.rows}


# People with one another, without a model.
_PEOPLE = ("dataset", "subject", "region", "value", "n_volumes")


def _intersubject(dataset, models, asked, output, progress) -> Tables:
    """Correlation of each person's time courses with the mean of the others', region by region."""
    if dataset.time_courses is None:
        raise ValueError(f"{dataset.name} has no time courses: name a data set of scans")
    people = [dataset.time_courses(subject) for subject in dataset.subjects]
    for person in people[1:]:
        if person.stimulus.words != people[0].stimulus.words:
            raise ValueError(
                f"{dataset.name}: {person.subject} has other words than {people[0].subject}: name subjects "
                "that share them"
            )
    shapes = {np.shape(person.values) for person in people}
    if len(shapes) > 1:
        raise ValueError(
            f"{dataset.name}: people of the same volumes and voxels are correlated, not "
            f"{', '.join(map(str, sorted(shapes)))}: name subjects that share both"
        )
    values = intersubject_correlation(np.stack([_as_first(person, people[0]) for person in people]))
    names = people[0].feature_names or [f"voxel {i}" for i in range(values.shape[1])]
    lines = [
        (dataset.name, subject, region, values[row, column], len(people[0].values))
        for row, subject in enumerate(dataset.subjects)
        for column, region in enumerate(names)
    ]
    return {"intersubject": pd.DataFrame(lines, columns=list(_PEOPLE))}


def _as_first(person: TimeCourses, first: TimeCourses) -> np.ndarray:
    """A person's time courses, in the order of the first one's regions."""
    values, names, wanted = np.asarray(person.values), person.feature_names, first.feature_names
    if names is None or wanted is None:
        spaces = person.space, first.space
        if names is wanted and (
            spaces[0] is None or spaces[1] is None or spaces[0].same_as(spaces[1])
        ):
            return values
    elif names == wanted:
        return values
    elif len(set(wanted)) == len(wanted) and sorted(names) == sorted(wanted):
        return values[:, [names.index(name) for name in wanted]]
    raise ValueError(
        f"{person.subject} and {first.subject} do not have the same regions or voxels, which are correlated "
        "one by one: name subjects that share them"
    )


# RDMs of people with one another, without a model.
_CEILING = ("dataset", "method", "bound", "subject", "value", "n_items")


def _check_ceiling(asked: Options) -> None:
    check_known("rdm_metric=", asked.others["rdm_metric"], rsa.METRICS)
    check_known("rdm_comparison=", asked.others["rdm_comparison"], rsa.COMPARISONS)


def _rdm_ceiling(dataset, models, asked, output, progress) -> Tables:
    """Similarity of each person's RDM with the mean of the others' (lower) and of all (upper)."""
    metric, method = str(asked.others["rdm_metric"]), str(asked.others["rdm_comparison"])
    people = [dataset.load(subject) for subject in dataset.subjects]
    complete = np.all([person.valid for person in people], axis=0)
    count = int(complete.sum())
    rsa.check_items(count)
    rdms = [rsa.rdm(jnp.asarray(person.values[complete]), metric=metric) for person in people]
    bounds = noise_ceiling.noise_ceiling(jnp.stack(rdms), method=method)
    lines = [
        (dataset.name, method, bound, subject, float(value), count)
        for bound, values in bounds._asdict().items()
        for subject, value in zip(dataset.subjects, values, strict=True)
    ]
    return {"rdm_ceiling": pd.DataFrame(lines, columns=list(_CEILING))}


_OF_ALIGN = {
    "results": results.COLUMNS,
    "evidence": table.COLUMNS,
    "scaling": scaling.COLUMNS,
    "intervals": intervals.COLUMNS,
    "rsa": rsa_evidence.COLUMNS,
    "similarity": table.COLUMNS,
    "similarity_layers": LAYER_COLUMNS,
}
STUDIES: dict[str, AskedStudy] = {
    "align": AskedStudy(
        _OF_ALIGN,
        (Protocol, Scoring, Embedding, EvidencePlan),
        {"protocol": "audited", "evidence": True},
        True,
        _align,
        _check_align,
    ),
    "next_word": AskedStudy(
        {**_OF_ALIGN, "next_word": _NEXT_WORD},
        (Protocol, Scoring, Embedding, EvidencePlan),
        {"protocol": "audited", "evidence": True},
        True,
        _next_word,
        _check_next_word,
    ),
    "encode": AskedStudy(
        {"encoding": ENCODING_COLUMNS}, (VoxelEncoding,), {}, True, _encode, _check_encode
    ),
    "intersubject": AskedStudy(
        {"intersubject": _PEOPLE}, (), {}, False, _intersubject, lambda asked: None
    ),
    "rdm_ceiling": AskedStudy(
        {"rdm_ceiling": _CEILING},
        (),
        {"rdm_metric": "correlation", "rdm_comparison": "spearman"},
        False,
        _rdm_ceiling,
        _check_ceiling,
    ),
}
