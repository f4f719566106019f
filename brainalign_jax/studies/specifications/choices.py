"""The choices that papers differ in, and every combination of them."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from brainalign_jax.embedding import Embedding
from brainalign_jax.names import check_known
from brainalign_jax.study.protocol import STEPS, Protocol, protocol

MOST = 20_000  # specifications
RANK_ACCURACY = "rank_accuracy"
NO_CSLS = "none"

# choice -> level -> the fields of the protocol or of the vectors that it sets, the audited protocol's first.
# The folds are those of the protocols that fit the words; of csls_k and metric any number is a level.
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "folds": {"audited": {}, "shuffled": {}},
    "queries": {"types": {"queries": "types"}, "tokens": {"queries": "tokens"}},
    "centring": {
        "training": {"center": True, "fit_intercept": True},
        "none": {"center": False, "fit_intercept": False},
    },
    "scaling": {name: {"scaling": name} for name in ("none", "zscore", "minmax")},
    "pca": {name: {"pca": name} for name in ("none", "model_width")},
    "penalty": {
        "retrieval": {"alpha_selection": "retrieval"},
        "error": {"alpha_selection": "error_shared"},
        "fixed": {"alpha_selection": "error_shared", "alphas": (1.0,)},
    },
    "candidate_scaling": {name: {"candidate_scaling": name} for name in ("spread", "none")},
    "csls_k": {"10": {"csls_k": 10}, NO_CSLS: {}, "100": {"csls_k": 100}},
    "layer": {
        "inner_folds": {"layer_selection": "inner_folds"},
        "middle": {"layer_selection": "test"},
        "best": {"layer_selection": "test"},
    },
    "metric": {"p10": {}, RANK_ACCURACY: {}},
    "pooling": {name: {} for name in ("mean", "first", "last")},
    "context": {name: {} for name in ("sentence", "window", "growing", "word")},
}
OF_VECTORS = ("pooling", "context")
# Varied where nothing else is asked for; of the others, what the options of the vectors say, or the first.
VARIED = (
    "folds", "queries", "centring", "penalty", "candidate_scaling", "csls_k", "layer", "metric",
)  # fmt: skip
_DEFAULT_LEVELS = {"penalty": ("retrieval", "error")}
LABELS = {
    "folds": "the folds", "queries": "what is decoded", "centring": "the centring",
    "scaling": "the scaling of responses", "pca": "PCA of responses", "penalty": "the rule of the penalty",
    "candidate_scaling": "the scaling of candidates", "csls_k": "the neighbours of CSLS",
    "layer": "the rule of the layer", "metric": "the metric", "pooling": "the pooling of sub-tokens",
    "context": "the context",
}  # fmt: skip
SAID = {
    ("folds", "shuffled"): "the paper's folds",
    (
        "layer",
        "best",
    ): "the best layer on the tested words, which is double-dipping: each draw takes its own",
}


class Specification(NamedTuple):
    """One combination: levels, choice -> level; the protocol and the vectors that they make."""

    levels: dict[str, str]
    protocol: Protocol
    embedding: Embedding

    @property
    def csls_k(self) -> int:
        """Neighbours of CSLS, 0 for none."""
        return 0 if self.levels["csls_k"] == NO_CSLS else int(self.levels["csls_k"])

    @property
    def k(self) -> int:
        """Of precision@k, 0 for rank accuracy."""
        metric = self.levels["metric"]
        return 0 if metric == RANK_ACCURACY else int(metric[1:])


def levels_of(
    asked: Mapping[str, str | Sequence[str]],
    *,
    embedding: Embedding,
    n_words: int,
    recurring: bool,
    products: bool,
    method: str = "ridge",
) -> dict[str, tuple[str, ...]]:
    """The levels of every choice, one where it is not varied.

    Args:
      asked: choice -> levels, or a text with colons between them; the others keep their defaults.
      n_words: candidates of the person who has the fewest; of the default neighbours of CSLS, those above
        are left out. recurring: whether words come more than once, else types and tokens are the same.
        products: whether specifications are read of shared products; else each is scored by a study, which
        has no P@k without CSLS in its draws.
      method: the penalty varies by default of ridge alone.

    Raises: ValueError for an unknown choice or level, with the nearest, and levels given twice.
    """
    chosen = asked_levels(asked)
    levels: dict[str, tuple[str, ...]] = {}
    for name, known in CHOICES.items():
        if name in chosen:
            levels[name] = chosen[name]
            continue
        default = _DEFAULT_LEVELS.get(name, tuple(known))
        if name in OF_VECTORS:
            default = (getattr(embedding, name),)
        elif (
            name not in VARIED
            or (name == "queries" and not recurring)
            or (name == "penalty" and method != "ridge")
        ):
            default = default[:1]
        elif name == "csls_k":
            default = tuple(
                level
                for level in default
                if (level == NO_CSLS and products) or (level != NO_CSLS and int(level) <= n_words)
            )
        elif name == "metric" and not products:
            default = default[:1]
        levels[name] = default
    if not products:
        for name, level in (("csls_k", NO_CSLS), ("metric", RANK_ACCURACY)):
            if level in levels[name]:
                raise ValueError(
                    f"--choices: {name}={level} is for ridge of isolated words, each once: leave it out"
                )
    for name, level in (("csls_k", "neighbours"), ("metric", "precision@k")):
        for text in levels[name]:
            digits = re.sub(r"\D", "", text)
            if digits and int(digits) > n_words:
                raise ValueError(
                    f"--choices: {name}={text}: {level} of more than the {n_words} words: lower it"
                )
    return levels


def asked_levels(asked: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The levels that are asked for, as tuples.

    Raises: ValueError for an unknown choice or level, with the nearest, and for a level given twice.
    """
    for name in asked:
        check_known("choice", name, CHOICES, of="--choices")
    return {name: _asked(name, several) for name, several in asked.items()}


def _asked(name: str, text: str | Sequence[str]) -> tuple[str, ...]:
    several = tuple(text.split(":")) if isinstance(text, str) else tuple(text)
    for level in several:
        pattern = {"csls_k": r"[1-9]\d{0,5}", "metric": r"p[1-9]\d{0,5}"}.get(name)
        if pattern is None or not re.fullmatch(pattern, level):
            check_known(f"--choices: {name}=", level, CHOICES[name])
    if len(set(several)) < len(several):
        raise ValueError(f"--choices: {name} has a level twice: give each once")
    return several


def specifications_of(
    levels: Mapping[str, Sequence[str]], *, embedding: Embedding, **how
) -> list[Specification]:
    """Every combination of the levels, the last choice varying fastest.

    how: timed, grouped and dataset, as in `protocol`.

    Raises: ValueError for one combination alone, and for more than `MOST`.
    """
    count = 1
    for several in levels.values():
        count *= len(several)
    if count < 2:
        raise ValueError("--choices leave one specification: give a choice two levels or more")
    if count > MOST:
        raise ValueError(
            f"--choices make {count:,} specifications, above {MOST:,}: leave levels out"
        )
    audited, paper = protocol("audited", **how), protocol("paper", **how)
    audited = dataclasses.replace(audited, name="specification", vector_axes=0)
    made = []
    for combination in itertools.product(*levels.values()):
        own = dict(zip(levels, combination, strict=True))
        fields: dict[str, Any] = {}
        for name, level in own.items():
            fields |= CHOICES[name].get(level, {})
        if own["folds"] == "shuffled":
            names = (*STEPS["folds"], *STEPS["hold_out_types"])
            fields |= {field: getattr(paper, field) for field in names}
        if own["csls_k"] != NO_CSLS:
            fields["csls_k"] = int(own["csls_k"])
        of_vectors = {name: own[name] for name in OF_VECTORS}
        made.append(
            Specification(
                own,
                dataclasses.replace(audited, **fields),
                dataclasses.replace(embedding, **of_vectors),
            )
        )
    return made


def varied(levels: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The choices that have several levels."""
    return {name: tuple(several) for name, several in levels.items() if len(several) > 1}
