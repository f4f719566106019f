"""Is a rewording that follows from a figurative sentence nearer to it than one that does not?

The text side alone: an idiom or a metaphor has a literal rewording that follows from it, and one that does
not, often because it takes the words as they stand. By each layer of a model, the share of sentences whose
vector lies nearer to the one that follows is held against an untrained twin's, word vectors', and words in
common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.files import user_path
from brainalign_jax.language import Embeddings
from brainalign_jax.names import vectors_in
from brainalign_jax.studies.figurative import report
from brainalign_jax.studies.figurative.pairs import (
    FIGURATIVE,
    REFERENCE,
    Pairs,
    literal_pairs,
    read_pairs,
)
from brainalign_jax.studies.figurative.table import (
    COLUMNS,
    FEWEST,
    FigurativeTable,
    conditions,
    rows_of,
)
from brainalign_jax.studies.figurative.vectors import (
    names_of,
    scorer,
    sentence_vectors,
    text_scorers,
)
from brainalign_jax.studies.options import Figurative
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.manifest import made_by
from brainalign_jax.study.progress import Progress, Stage

_MOST = 2**28  # sentences times draws
_VECTORS, _TESTS = "sentence vectors", "shares and tests"


def run_figurative(
    data: str | Path | Pairs,
    models: Sequence[str | Embeddings],
    output_dir: str | Path | None = None,
    *,
    reference: str | Path | Pairs | None = None,
    static: str | Path | None = None,
    plan: Figurative = Figurative(),
    bos: str = "auto",
    cache_dir: str | Path | None = None,
    command: str = "",
    progress: bool = True,
) -> FigurativeTable:
    """Score rewordings by their nearness; write figurative.parquet, figures, manifest.json and report.html.

    Args:
      data: a folder as `read_pairs` takes it, or pairs. models: names, or vectors of the texts in memory.
      output_dir: None writes nothing. reference: literal sentences, as data; where none are given, the
        rewordings of sentences with several that follow (`literal_pairs`).
      static: a file of word vectors, whose mean is a sentence's vector. bos: as of `embed`. cache_dir: of
        sentence vectors; below output_dir if not given. plan: pooling, folds, draws. command, progress:
        as of `run_study`.

    Raises: ValueError for too few sentences, or data as of `read_pairs`.
    """
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    pairs, name = _drawn(data, plan)
    sets = {FIGURATIVE: pairs}
    if reference is not None:
        sets[REFERENCE], _ = _drawn(reference, plan)
    elif (literal := literal_pairs(pairs)) is not None and any(conditions(literal, plan)):
        sets[REFERENCE] = literal
    static = None if static is None else user_path(static, "static", "a file of word vectors")
    in_memory = vectors_in(models)
    names = names_of(models, static, plan)
    computing.keep_compiled_programs()
    cache = cache and cache / "embeddings"
    told = Progress(
        {_VECTORS: Stage(len(names), 20.0), _TESTS: Stage(len(sets), 10.0)}, show=progress
    )
    scorers = {kind: text_scorers(pair_set) for kind, pair_set in sets.items()}
    facts = []
    with told.stage(_VECTORS):
        for model in names:
            known: dict[tuple[str, ...], Embeddings] = {}
            for kind, of_kind in sets.items():
                if of_kind.texts not in known:
                    known[of_kind.texts] = sentence_vectors(
                        of_kind.texts, model, plan, given=in_memory.get(model), bos=bos, cache=cache
                    )
                scorers[kind].append(scorer(known[of_kind.texts], of_kind))
            vectors = known[pairs.texts]
            facts.append({"name": model, "fingerprint": vectors.fingerprint(), **vectors.meta})
            told.update()
    tables = []
    with told.stage(_TESTS):
        for kind, of_kind in sets.items():
            tables.append(rows_of(scorers[kind], of_kind, plan).assign(dataset=name, kind=kind))
            told.update()
    table = FigurativeTable(
        pd.concat(tables, ignore_index=True)[list(COLUMNS)],
        {
            **made_by(command),
            "dataset": {"name": name, "texts": len(pairs.texts), "pairs": len(pairs.unit)},
            "sentences": {kind: len(pair_set.units) for kind, pair_set in sets.items()},
            "left_out": pairs.left_out,
            "reference": "given" if reference is not None else "literal rewordings of one sentence",
            "fingerprints": {kind: pair_set.fingerprint() for kind, pair_set in sets.items()},
            "plan": asdict(plan),
            "bos": bos,
            "models": facts,
        },
    )
    return table.finished(output, report.write_report)


def _drawn(data: str | Path | Pairs, plan: Figurative) -> tuple[Pairs, str]:
    """(the pairs of as many sentences as are asked for, what they are called)."""
    pairs = data if isinstance(data, Pairs) else read_pairs(data)
    name = "pairs" if isinstance(data, Pairs) else user_path(data, "data_dir").name
    count = len(pairs.units)
    if plan.n_sentences is not None and plan.n_sentences < count:
        rng = np.random.default_rng((plan.seed, 2))
        pairs = pairs.of_units(np.sort(rng.choice(count, plan.n_sentences, replace=False)))
        count = plan.n_sentences
    fewest = max(FEWEST, 2 * plan.n_folds)
    if count < fewest:
        raise ValueError(
            f"{name} has {count} sentences with both kinds of rewording; {plan.n_folds} folds need {fewest}: "
            "give more, or fewer n_folds"
        )
    draws = max(plan.n_flips, plan.n_bootstraps)
    if count * draws > _MOST:
        raise ValueError(
            f"{count:,} sentences with {draws:,} draws are more than can be held: lower n_flips and "
            "n_bootstraps, or give n_sentences"
        )
    return pairs, name
