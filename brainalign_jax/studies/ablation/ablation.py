"""Which part of the model carries the alignment?

Heads, sub-layers, blocks and positions are switched off, one at a time, and the words are decoded from the
ablated vectors: by a map that is fitted anew (is the information gone?) and by the intact layer's map (has
the code moved?). Beside each part is a random share of the same norm, and what the same costs in bits.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.embedding import Embedding
from brainalign_jax.language.parts import ablation as parts
from brainalign_jax.language.parts.components import DRAWN, RANDOM, Setting, components_of
from brainalign_jax.machine import free_memory
from brainalign_jax.names import model_names
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.ablation import gradient, held_constant, report, shapley, twins
from brainalign_jax.studies.ablation.gradient import Estimates
from brainalign_jax.studies.ablation.held_constant import HeldFeatures
from brainalign_jax.studies.ablation.objectives import Objectives
from brainalign_jax.studies.ablation.scores import (
    IntactScores,
    PersonScores,
    Stacks,
    held_bytes,
    own_layer,
)
from brainalign_jax.studies.ablation.table import (
    COLUMNS,
    AblationTable,
    Ranks,
    intact_rows,
    rows_of,
)
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study, fitting_scoring
from brainalign_jax.study.manifest import manifest
from brainalign_jax.study.names import UNTRAINED, seed_of, without_seed
from brainalign_jax.study.options import KS, Scoring
from brainalign_jax.study.progress import Progress, Stage
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.registry import check_decoders
from brainalign_jax.study.report.wording import listed
from brainalign_jax.study.results import SELECTED
from brainalign_jax.study.score.methods import method_of

_KS = (1, 10)
_INTACT, _VECTORS, _SCORES, _TESTS = "intact scores", "ablated vectors", "scores", "tests"
_SHAPLEY, _TWINS = "Shapley values", "untrained twins"
_ESTIMATES = "estimates by gradient"


def run_ablation(
    dataset: Dataset,
    models: Sequence[str],
    output_dir: str | Path | None = None,
    *,
    plan: Ablation = Ablation(),
    scoring: Scoring | None = None,
    embedding: Embedding = Embedding(),
    computation: Computation = Computation(),
    cache_dir: str | Path | None = None,
    command: str = "",
    simulated: bool = False,
    progress: bool = True,
) -> AblationTable:
    """Switch off parts of models and score what is left; write ablation.parquet, manifest, figures, report.

    Args:
      dataset: an opened data set. models: names as of `embed`. output_dir: None writes nothing. plan: the
        parts, and how they are switched off. scoring: methods that decode words, ks, lower and seed; ridge if
        not given. Its protocol is the audited one that fits the words if none is given, with all axes of the
        vectors. cache_dir: of the intact vectors; below output_dir if not given.
      embedding, computation, command, simulated, progress: as of `run_study`.

    Raises: ValueError for static vectors, parts that a model lacks, methods that decode no words, or a choice
      of the protocol that fits responses or vectors to each fold.
    """
    scoring = scoring or Scoring(methods=("ridge",), ks=_KS)
    check_decoders(scoring.methods, "an ablation study")
    for model in models:
        if not isinstance(model, str):
            raise ValueError(
                f"{getattr(model, 'model', model)!r} is given as vectors, of which nothing can be switched "
                "off: give the model's name or folder"
            )
    models = model_names(models)
    if embedding.sublayers is not None:
        raise ValueError(
            f"sublayers={embedding.sublayers} has no place in an ablation study, which reads what blocks "
            "give: leave it out"
        )
    if dataset.spans is not None:
        raise ValueError(
            f"the items of {dataset.name} are spans of words, which are read in their sentences: an ablation "
            "study reads words; leave the span columns out"
        )
    scoring = fitting_scoring(dataset, scoring)
    scoring = replace(scoring, protocol=checked_protocol(scoring.protocol))
    _check_maps(scoring, plan)
    held = None
    if plan.hold_constant:
        held_constant.check_methods(scoring.methods)
        held = held_constant.held_features(
            dataset.stimulus, plan.hold_constant, lower=scoring.lower
        )
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    n_types = len(dataset.stimulus.types(lower=scoring.lower)[0])
    if scoring.ks in (KS, _KS):
        scoring = replace(scoring, ks=tuple(k for k in scoring.ks if k < n_types) or (1,))
    computing.keep_compiled_programs()
    study = Study(dataset, models, scoring, computation, embedding, cache=cache)
    n_pairs = len(models) * len(scoring.methods) * len(dataset.subjects)
    estimating = {} if plan.estimate == "exact" else {_ESTIMATES: Stage(len(models), 60.0)}
    told = Progress(
        {
            _INTACT: Stage(n_pairs),
            **estimating,
            _VECTORS: Stage(len(models), 60.0),
            _SCORES: Stage(n_pairs, 20.0),
            _TESTS: Stage(len(models) * len(scoring.methods) * len(plan.readout), 10.0),
            **({_SHAPLEY: Stage(len(models), 60.0)} if plan.shapley else {}),
            **({_TWINS: Stage(len(models), 60.0)} if plan.twins else {}),
        },
        show=progress,
    )
    responses = [dataset.load(subject) for subject in dataset.subjects]
    tables, about_models, chosen_layers = [], [], {}
    notes = [] if held is None else list(held.notes)
    shares, orders = [], {}
    estimates: list[pd.DataFrame] = []
    for name in models:
        rows, about, chosen, shared = _of_model(
            study, name, plan, responses, held, told, notes, estimates
        )
        if shared is not None:
            shares.append(shared[0].assign(dataset=dataset.name))
            orders[name] = shared[1]
        features = "" if held is None else ", ".join(held.names)
        tables.append(rows.assign(dataset=dataset.name, model=name, held_constant=features))
        about_models.append(about)
        chosen_layers[name] = chosen
    table = AblationTable(
        pd.concat(tables, ignore_index=True)[list(COLUMNS)],
        {
            **manifest(
                study,
                about_models,
                {recording.subject: recording.fingerprint() for recording in responses},
                command=command,
                simulated=simulated,
                notes=list(dict.fromkeys(notes)),
            ),
            "plan": asdict(plan),
            "embedding": vars(embedding),
            "chosen_layers": chosen_layers,
            **({"shapley_orders": orders} if orders else {}),
        },
        pd.concat(shares, ignore_index=True)[list(shapley.COLUMNS)] if shares else None,
        pd.concat(estimates, ignore_index=True)[list(gradient.COLUMNS)] if estimates else None,
    )
    return table.finished(output, report.write_report)


def checked_protocol(given: Protocol) -> Protocol:
    """A protocol as ablations can take it. Raises: ValueError for choices that they have no place for."""
    return replace(given.shared_by("an ablation study, whose settings"), vector_axes=0)


def _check_maps(scoring: Scoring, plan: Ablation) -> None:
    """Raises: ValueError for methods without a map where the intact model's map is all that is asked for."""
    if plan.readout != ("frozen",):
        return
    for name in scoring.methods:
        if not hasattr(method_of(name, scoring.protocol), "fitted"):
            raise ValueError(
                f"{name} decodes without a map, and readout=frozen reads through nothing else: give refit, "
                "too (--readout=refit,frozen), or another method"
            )


def settings_of(
    ablation: parts.Ablation, plan: Ablation, model: str, notes: list[str]
) -> list[Setting]:
    """What is switched off in a model, in which ways; notes: gets what is left out."""
    components = components_of(ablation.config, plan.components, blocks=plan.blocks, model=model)
    settings = []
    for component in components:
        for how in plan.how:
            rotary = component.kind == "positions" and not ablation.has_position_table
            if rotary and how != "zero":
                lacking = "mean" if how == "mean" else "rows to be drawn"
                notes.append(
                    f"{model} turns its vectors by their positions, which have no {lacking}."
                )
                continue
            if component.kind == "norms" and how in DRAWN:
                notes.append(
                    "Gains of layer norms are one in an untrained model: zero is all of it."
                )
                continue
            draws = plan.draws if how in DRAWN else 1
            settings += [Setting(component, how, draw) for draw in range(draws)]
        if plan.controls and component.kind not in ("positions", "norms"):
            settings.append(Setting(component, RANDOM))
    if not settings:
        raise ValueError(
            f"nothing of {model} can be switched off in these ways: give other --components, or --how=zero"
        )
    return settings


def _of_model(
    study: Study,
    name: str,
    plan: Ablation,
    responses,
    held: HeldFeatures | None,
    told: Progress,
    notes: list[str],
    estimates: list[pd.DataFrame],
) -> tuple[pd.DataFrame, dict, dict[str, int], tuple | None]:
    """(rows of a model, facts of it, method -> the layer that is chosen most often, see `shapley`).

    notes, estimates: get what is left out, and the rows of what is estimated.
    """
    scoring, computation, embedding = study.scoring, study.computation, study.embedding
    own_seed = seed_of(name)
    base, seed = without_seed(name), scoring.seed if own_seed is None else own_seed
    # Twins and weights drawn anew have seeds behind the model's own, so that none of them is the model.
    last_seed = max(scoring.seed, own_seed or 0)
    words, lower = study.dataset.stimulus, scoring.lower
    ablation = parts.Ablation(words, base, embedding, lower=lower, seed=seed)
    settings = settings_of(ablation, plan, name, notes)
    for players in plan.shapley:  # a block that the model lacks is refused before the work
        shapley.players_of(players, ablation.config, name)
    embeddings = study.vectors(name)
    subjects = study.dataset.subjects
    tables = []
    with computation.context(), ThreadPoolExecutor(computation.workers()) as pool:
        people = PersonScores(responses, embeddings, scoring, computation, pool, held)
        intact: dict[tuple[str, int], IntactScores] = {}
        with told.stage(_INTACT):
            for method in scoring.methods:
                for subject in range(len(subjects)):
                    intact[method, subject] = people.intact(subject, method)
                    told.update()
        chosen = sorted({int(layer) for known in intact.values() for layer in known.chosen})
        chosen_layers = {
            method: _most_chosen([intact[method, subject] for subject in range(len(subjects))])
            for method in scoring.methods
        }
        estimated, left_out = None, []
        if plan.estimate != "exact":
            with told.stage(_ESTIMATES):
                read = chosen_layers[scoring.methods[0]]
                objectives = Objectives(
                    people,
                    len(subjects),
                    embeddings.values.shape[1],
                    scoring.methods,
                    gradient.layers_read(settings, read),
                    per_target=scoring.protocol.selects_per_target,
                )
                estimated = Estimates(ablation, objectives, settings, plan, read)
                verified = set(estimated.verified(settings, plan.exact))
                left_out = [each for each in settings if each not in verified]
                settings = [each for each in settings if each in verified]
                told.update()
        _check_room(settings, chosen, embeddings.values.shape)
        with told.stage(_VECTORS):
            vectors = list(ablation.vectors(settings, chosen, bits=plan.bits, seed=last_seed))
            given = {each.setting for each in vectors}
            alone = [str(each.component) for each in settings if each not in given]
            if alone:
                notes.append(
                    f"There is no random share beside {listed(alone)} of {name}: in squared norm they write "
                    "more than half of what enters their blocks, of which a share of that size is nearly all."
                )
            if estimated is not None:
                estimated.add_exact(vectors)
                estimates.append(estimated.rows.assign(dataset=study.dataset.name, model=name))
            settings = [each.setting for each in vectors]
            bits = np.array([each.bits for each in vectors])
            own = [own_layer(setting) for setting in settings]
            stacks = Stacks([each.layers for each in vectors], own, people.size)
            del vectors
            told.update()
        for method in scoring.methods:
            known = [intact[method, subject] for subject in range(len(subjects))]
            with told.stage(_SCORES):
                every = []
                for subject in range(len(subjects)):
                    every.append(
                        people.ablated(subject, method, known[subject], stacks, plan.readout)
                    )
                    told.update()
            with told.stage(_TESTS):
                tables += _rows_of_method(
                    method, known, every, settings, bits, subjects, plan, scoring, told
                )
            if "frozen" in plan.readout and "frozen" not in every[0]:
                notes.append(
                    f"{method} decodes without a map: there is none to keep from the intact model."
                )
        if plan.twins:
            with told.stage(_TWINS):
                bare = UNTRAINED + base.removeprefix(UNTRAINED)
                seeds = range(last_seed + 1, last_seed + 1 + plan.twins)
                make = functools.partial(parts.Ablation, words, bare, embedding, lower=lower)
                tables += twins.rows_of_twins(
                    lambda seed: make(seed=seed), seeds, people, intact, subjects, plan, scoring
                )
                told.update()
        shared = None
        if plan.shapley:
            with told.stage(_SHAPLEY):
                shared = shapley.values_of_model(
                    ablation, people, intact, subjects, plan, scoring, name
                )
                told.update()
    about = {"name": name, "fingerprint": embeddings.fingerprint(), **embeddings.meta}
    about["head"] = ablation.head is not None
    if left_out:
        off = {setting.component for setting in settings}
        n_parts = len(off | {setting.component for setting in left_out})
        n_strongest = sum(map(gradient.has_gate, off))
        others = f" and the {len(off) - n_strongest} without one" * (len(off) > n_strongest)
        notes.append(
            f"Of {n_parts} parts of {name} the {n_strongest} strongest by the estimate{others} were switched "
            "off: as the same data chose them, p by the largest is Bonferroni's over all parts, which few "
            "people cannot pass."
        )
    rows = gradient.over_all_parts(pd.concat(tables, ignore_index=True), settings, left_out)
    return rows, about, chosen_layers, shared


def _most_chosen(known: Sequence[IntactScores]) -> int:
    """The layer that people's folds choose most often."""
    layers, counts = np.unique(
        np.concatenate([intact.chosen for intact in known]), return_counts=True
    )
    return int(layers[counts.argmax()])


def _rows_of_method(
    method: str,
    known: Sequence[IntactScores],
    every: Sequence[dict],
    settings: Sequence[Setting],
    bits: np.ndarray,
    subjects: Sequence[str],
    plan: Ablation,
    scoring: Scoring,
    told: Progress,
) -> list[pd.DataFrame]:
    counts = np.array([intact.n_candidates for intact in known])
    ranks = np.stack(
        [np.concatenate([intact.ranks, intact.selected[:, None]], axis=1) for intact in known],
        axis=1,
    )
    layers = [*range(ranks.shape[2] - 1), SELECTED]
    shared = (scoring.ks, plan, scoring.seed)
    tables = [intact_rows(ranks, counts, subjects, layers, *shared).assign(method=method)]
    for readout in plan.readout:
        if readout in every[0]:
            both = Ranks(
                np.stack([by_readout[readout].ranks for by_readout in every], axis=1),
                np.stack([by_readout[readout].intact for by_readout in every], axis=1),
                counts,
            )
            rows = rows_of(both, subjects, settings, bits, *shared)
            tables.append(rows.assign(method=method, readout=readout))
        told.update()
    return tables


def _check_room(settings: Sequence[Setting], chosen: Sequence[int], shape: tuple) -> None:
    """Raises: ValueError where the ablated vectors of all settings would not fit into the memory."""
    _, n_types, width = shape
    held = 0
    for setting in settings:
        layers = {own_layer(setting)} | {x for x in chosen if x > setting.component.block}
        held += len(layers) * held_bytes(n_types, width)
    if held > free_memory() // 2:
        raise ValueError(
            f"the vectors of {len(settings)} ablations of {n_types:,} words take {held:,} bytes, more than "
            "half of the free memory: name fewer components or blocks (--components, --blocks), or "
            "--controls=false"
        )
