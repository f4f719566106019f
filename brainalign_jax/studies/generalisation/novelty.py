"""How new may words be? One ladder: new words, sentences, passages, topics, stories, experiments, people.

At each level the same words are told from the same candidates, after training on as many words of which none
shares a group with them at that level. The null: the vectors change places between words, and everything is
fitted and chosen anew. The last level are new people: a map of the other people's shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings
from brainalign_jax.names import model_names, vectors_in
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.generalisation import new_people, scores
from brainalign_jax.studies.generalisation.cells import (
    LEAST_CANDIDATES,
    LEAST_TRAINED,
    Cells,
    Sizes,
)
from brainalign_jax.studies.generalisation.levels import (
    PERSON,
    Ladder,
    draw_ladder,
    exchanged_items,
    find_levels,
)
from brainalign_jax.studies.generalisation.table import (
    COLUMNS,
    FILE,
    draw_resamples,
    interval_of,
    item_means,
    size_slopes,
)
from brainalign_jax.studies.options import CONDITION, Generalisation
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence.chance import permutation_p
from brainalign_jax.study.manifest import manifest, model_facts
from brainalign_jax.study.options import CELL_KS, Scoring
from brainalign_jax.study.progress import SCORES
from brainalign_jax.study.report.wording import in_points
from brainalign_jax.study.results import GROUP, SELECTED

BAND = ("null_lower", "null_upper")
_MOST = 2**28  # words of all cells


@dataclass(frozen=True)
class NoveltyTable(outputs.StudyTable):
    """rows: a DataFrame with the columns of `GeneralisationTable` and `BAND`; manifest: how they came about.

    tested_on: the level, trained_on "other" and the level. value: "rank_accuracy" (chance one half) or
    "precision" at k of the tested words among `candidates`, after training on n_train words. null_mean,
    null_lower, null_upper: mean and middle 95 % of the draws in which vectors change places between words; p:
    draws that reach the value. ceiling: the other people's responses in place of the model's vectors. subject
    "group" is the mean over subjects, with an interval over people and words. layer -1 is chosen in each
    cell's training words.
    """

    file_name = FILE
    kind = "novelty ladder"

    def verdict(self) -> str:
        """What the ladder says, in words."""
        from brainalign_jax.studies.generalisation import novelty_report

        judged = novelty_report.verdicts(self)
        said = [*(judgement.text for judgement in judged), *novelty_report.scaling(self)]
        return in_points(novelty_report.headline(judged), said)

    @property
    def levels(self) -> list[str]:
        """Names of the levels that are tested, from the finest."""
        return list(self.manifest["levels"])


def run_novelty(
    dataset: Dataset,
    models: Sequence[str | Embeddings],
    output_dir: str | Path | None = None,
    *,
    plan: Generalisation = Generalisation(),
    scoring: Scoring = Scoring(ks=CELL_KS),
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> NoveltyTable:
    """Score every level of novelty; write generalisation.parquet, manifest.json and report.html.

    plan: its n_nulls draws exchange vectors between words, or between runs as a whole. The others as of
    `run_generalisation`.

    Raises: ValueError for words that have no level, too few of them, or a plan that matches words.
    """
    if plan.match:
        raise ValueError(
            "match is for conditions: the words that the levels test are the same at every one; leave it out"
        )
    if plan.candidates != (CONDITION,):
        raise ValueError(
            f"candidates={','.join(plan.candidates)} is for conditions: the words that the levels "
            "test are the candidates at every one; leave it out"
        )
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    in_memory = vectors_in(models)
    names = model_names(models)
    chosen = scores.chosen_protocol(scoring.protocol)
    ladder = find_levels(dataset.stimulus, scores.eligible_tokens(dataset), lower=scoring.lower)
    rng = np.random.default_rng((scoring.seed, 0))
    reason = _lack_of_people(len(dataset.subjects), len(ladder.items.types))
    if reason:
        ladder = ladder._replace(absent={**ladder.absent, PERSON: reason})
    _check_size(len(ladder.levels), plan, LEAST_TRAINED + LEAST_CANDIDATES)
    ladder, sizes, cells, aligning = draw_ladder(
        ladder,
        n_folds=plan.n_folds,
        n_splits=plan.n_splits,
        n_train=plan.n_train,
        people=reason is None,
        rng=rng,
    )
    _check_size(len(ladder.levels), plan, sizes.n_train + sizes.n_candidates)
    ks = scores.ks_within(scoring.ks, sizes.n_candidates)
    scoring = replace(scoring, protocol=chosen, ks=ks)
    computing.keep_compiled_programs()
    exchanged = [np.arange(len(ladder.items.types))]
    for draw in range(1, plan.n_nulls + 1):
        exchanged.append(exchanged_items(ladder, np.random.default_rng((scoring.seed, draw))))
    study = Study(dataset, names, scoring, computation, embedding, given=in_memory, cache=cache)
    methods = [scores.decoding_method(name, chosen, sizes) for name in scoring.methods]
    told, vectors = scores.vectors_of(study, len(methods), show=progress)
    tables, fingerprints = [], {}
    with told.stage(SCORES), computation.context():
        rows = scores.rows_of_people(dataset, ladder.items, methods, scoring.lower, fingerprints)
        for method in methods:
            sources = rows[method.form]
            shared = None
            if aligning is not None:
                last = Cells(*(part[-len(aligning) :] for part in cells))
                shared = new_people.shared_rows(sources, last, aligning)
            ceiling = _ceilings(sources, shared, cells, sizes, method, plan.centring)
            for embeddings in vectors:
                numbers, layers = scores.item_layers(
                    embeddings, ladder.items, scoring.layers, method
                )
                ranks = []
                for person, source in enumerate(sources):
                    own_shared = None if shared is None else shared[person]
                    ranks.append(
                        _ranks(
                            source,
                            own_shared,
                            layers,
                            cells,
                            exchanged,
                            sizes,
                            method,
                            plan.centring,
                        )
                    )
                    told.update()
                lines = _rows(
                    np.stack(ranks, axis=1),
                    ceiling,
                    [SELECTED, *numbers],
                    dataset.subjects,
                    ladder,
                    cells,
                    sizes,
                    plan,
                    ks=ks,
                    seed=scoring.seed,
                )
                tables.append(
                    lines.assign(dataset=dataset.name, model=embeddings.model, method=method.name)
                )
    facts = manifest(
        study,
        [model_facts(model) for model in vectors],
        fingerprints,
        command=command,
        simulated=simulated,
        notes=(),
    )
    n_groups = [int(groups.max()) + 1 for groups in ladder.groups]
    n_groups += [len(dataset.subjects)] * (aligning is not None)
    facts |= {
        "levels": list(ladder.levels),
        "n_groups": n_groups,
        "absent": ladder.absent,
        "cells": {**sizes._asdict(), "n_aligning": 0 if aligning is None else aligning.shape[1]},
        "plan": asdict(plan),
        "n_items": len(ladder.items.types),
    }
    rows = pd.concat(tables, ignore_index=True)[[*COLUMNS, *BAND]]
    accuracy = rows[rows["metric"] == "rank_accuracy"]
    facts["scaling"] = [
        {"level": level, **line}
        for level in ladder.levels
        for line in size_slopes(
            accuracy[accuracy["tested_on"] == level], vectors, plan, scoring.seed
        )
    ]
    from brainalign_jax.studies.generalisation import novelty_report

    return NoveltyTable(rows, facts).finished(output, novelty_report.write_report)


def _check_size(n_levels: int, plan: Generalisation, n_words: int) -> None:
    """Raises: ValueError where the words of all cells, n_words each, are more than can be held."""
    n_cells = n_levels * plan.n_splits * plan.n_folds * (1 + plan.n_nulls)
    if n_cells * n_words > _MOST:
        raise ValueError(
            f"{n_levels} levels, n_splits={plan.n_splits} and n_nulls={plan.n_nulls} make {n_cells:,} cells "
            f"of {n_words} words and more, more than can be held: lower one of them"
        )


def _lack_of_people(n_people: int, n_items: int) -> str | None:
    """Why new people are no level; None where they are."""
    if n_people < new_people.LEAST_PEOPLE:
        return f"there are {n_people}: {new_people.LEAST_PEOPLE} are needed"
    if n_items > scores.CEILING_WORDS:
        return f"more than {scores.CEILING_WORDS:,} words are too many for a shared space"
    return None


def _ranks(source, shared, layers, cells, exchanged, sizes, method, centring: str) -> np.ndarray:
    """Ranks [1 + B, F, 1 + L, Q] of a person's tested words, by the chosen layer and by each.

    source: the person's rows [I, R]. shared: [F', M, R'] of the cells of new people, or None.
    exchanged: 1 + B times the item [I] whose vector each item has.
    """
    people = len(cells.train) if shared is None else len(cells.train) - len(shared)
    people_cells = Cells(*(part[:people] for part in cells))
    draws = [_scored(source, layers, people_cells, exchanged, sizes, method, centring)]
    if shared is not None:
        rows = np.arange(shared.shape[0] * shared.shape[1]).reshape(shared.shape[:2])
        n_train = sizes.n_train
        in_space = Cells(
            rows[:, :n_train], rows[:, n_train:], *(part[people:] for part in cells[2:])
        )
        items = np.concatenate([cells.train[people:], cells.test[people:]], axis=1)
        draws.append(
            _scored(
                shared.reshape(-1, shared.shape[2]), layers, in_space, exchanged, sizes, method, centring,
                items=items,
            )
        )  # fmt: skip
    return np.concatenate(draws, axis=1)


def _scored(
    source, layers, cells, exchanged, sizes, method, centring: str, items: np.ndarray | None = None
) -> np.ndarray:
    """Ranks [1 + B, F, 1 + L, Q]. items: [F, M] whose rows those of the cells are; the same if not given."""
    if items is None:
        items = np.concatenate([cells.train, cells.test], axis=1)
    joined = Cells(*(np.concatenate([part] * len(exchanged)) for part in cells))
    cell_scores = scores.score_cells(
        source,
        layers,
        joined,
        sizes,
        method,
        centring=centring,
        vectors_of=np.concatenate([order[items] for order in exchanged]),
    )
    chosen = cell_scores.loss.argmin(axis=1)
    selected = cell_scores.ranks[np.arange(len(chosen)), chosen]
    ranks = np.concatenate([selected[:, None], cell_scores.ranks], axis=1)
    ranks = ranks.reshape(len(exchanged), len(items), *ranks.shape[1:])
    return ranks.astype(np.float32)  # words that tie share a rank of halves


def _ceilings(sources, shared, cells, sizes, method, centring: str) -> np.ndarray | None:
    """Ranks [S, F, Q] by the other people's responses in place of vectors; None for a single person."""
    if len(sources) < 2 or len(sources[0]) > scores.CEILING_WORDS:
        return None
    identity = [np.arange(len(sources[0]))]
    ranks = []
    for person, source in enumerate(sources):
        others = [rows for index, rows in enumerate(sources) if index != person]
        layer = scores.others_layer(others)[None]
        of_person = None if shared is None else shared[person]
        drawn = _ranks(source, of_person, layer, cells, identity, sizes, method, centring)
        ranks.append(drawn[0, :, 0])
    return np.stack(ranks)


def _rows(
    ranks: np.ndarray,
    ceiling: np.ndarray | None,
    layers: Sequence[int],
    subjects: Sequence[str],
    ladder: Ladder,
    cells: Cells,
    sizes: Sizes,
    plan: Generalisation,
    *,
    ks: tuple[int, ...],
    seed: int,
) -> pd.DataFrame:
    """Rows of all levels: ranks [1 + B, S, F, L, Q], of the draws after the first; ceiling [S, F, Q]."""
    n = sizes.n_candidates
    metrics = {("rank_accuracy", 0): lambda ranks: 1 - (ranks - 1) / (n - 1)}
    for k in ks:
        metrics["precision", k] = lambda ranks, k=k: (ranks <= k).astype(np.float64)
    counts = draw_resamples(len(subjects), len(ladder.items.types), plan, seed)
    lines = []
    for (metric, k), score in metrics.items():
        means = np.stack([score(of_person.astype(np.float64)).mean(axis=-1) for of_person in ranks])
        of_items, times = item_means(
            score(ranks[0].astype(np.float64)), [cells] * len(subjects), ladder.items
        )
        tops = None if ceiling is None else score(ceiling.astype(np.float64)).mean(axis=-1)
        mask = times.astype(np.float32)
        for level, name in enumerate(ladder.levels):
            chosen = cells.trained == level
            values = _with_mean(means[:, :, chosen].mean(axis=2))
            top = np.full(len(subjects) + 1, np.nan)
            if tops is not None:
                top = _with_mean(tops[:, chosen].mean(axis=1)[None])[0]
            for place, layer in enumerate(layers):
                bounds = interval_of(
                    of_items[level, ..., place].astype(np.float32), mask, *counts,
                    confidence=plan.confidence,
                )  # fmt: skip
                for person, subject in enumerate((*subjects, GROUP)):
                    observed, *draws = values[:, person, place]
                    group = subject == GROUP
                    band = np.quantile(draws, (0.025, 0.975)) if draws else (np.nan, np.nan)
                    lines.append(
                        {
                            "subject": subject, "layer": layer, "trained_on": f"other {name}",
                            "tested_on": name, "candidates": n, "metric": metric, "k": k,
                            "value": observed, "null_mean": np.mean(draws) if draws else np.nan,
                            "ceiling": top[person],
                            "p": permutation_p(observed, np.array(draws)) if draws else np.nan,
                            "n_train": sizes.n_train, "n_items": int(times.any(axis=0).sum()),
                            "lower": float(bounds.lower) if group else np.nan,
                            "upper": float(bounds.upper) if group else np.nan,
                            **dict(zip(BAND, band, strict=True)),
                        }
                    )  # fmt: skip
    return pd.DataFrame(lines)


def _with_mean(values: np.ndarray) -> np.ndarray:
    """Values [B, S + 1, ...] of people [B, S, ...] and of their mean."""
    return np.concatenate([values, values.mean(axis=1, keepdims=True)], axis=1)
