"""What does a language model predict of every voxel's time course beyond rate, length, frequency, position?

Vectors of the words become features at the volumes, and ridge predicts each voxel from them beside nuisances
without a penalty; layer and penalty are chosen for each voxel in inner folds. What the model adds is held
against recordings whose residuals are turned in a circle, and against the other people's responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.files import user_path
from brainalign_jax.language import Embeddings
from brainalign_jax.names import model_names
from brainalign_jax.neural.readers import Dataset, list_datasets
from brainalign_jax.neural.readers.registry import reader_options
from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.neural.readout.encoding import FIR_SECONDS
from brainalign_jax.neural.recording import repetition_times
from brainalign_jax.studies.encoding import (
    evidence,
    features,
    partition,
    report,
    scores,
    sizes,
    surfaces,
)
from brainalign_jax.studies.encoding import spaces as places
from brainalign_jax.studies.encoding.maps import BrainMap
from brainalign_jax.studies.encoding.table import (
    MAPS,
    QUANTITIES,
    EncodingTable,
    group_rows,
    group_space_rows,
    joined,
    joined_spaces,
    person_rows,
    space_rows,
)
from brainalign_jax.studies.options import VoxelEncoding
from brainalign_jax.study import computation as computing
from brainalign_jax.study import outputs
from brainalign_jax.study.manifest import made_by
from brainalign_jax.study.progress import Progress, Stage
from brainalign_jax.study.results import GROUP
from brainalign_jax.study.score import volumes

_READING, _VECTORS, _SCORES = "recordings", "word vectors", "voxels"


class Clock(NamedTuple):
    """People with the same words at the same times and the same volumes: they share all factors.

    ceilings: of each person [V], NaN where there is no other person.
    """

    people: list[TimeCourses]
    folds: volumes.TimeFolds
    shifts: np.ndarray
    ceilings: list[np.ndarray]


def run_encoding(
    dataset: Dataset,
    models: Sequence[str | Embeddings],
    output_dir: str | Path | None = None,
    *,
    plan: VoxelEncoding = VoxelEncoding(),
    spaces: Sequence[str | Embeddings] = (),
    atlas: str | Path | None = None,
    labels: str | Path | None = None,
    surface: str | Sequence[str] = (),
    cache_dir: str | Path | None = None,
    max_memory: int | None = None,
    command: str = "",
    progress: bool = True,
) -> EncodingTable:
    """Score every voxel; write encoding.parquet, maps/, map.html, figures, manifest.json and report.html.

    With spaces also how their variance and each model's is divided, `spaces.parquet`.

    Args:
      dataset: of scans, whose time courses can be read. models: names, or vectors of the words in memory.
      output_dir: None writes nothing. plan: delays, folds, penalties, nuisances, shifts. spaces: one to three
        feature spaces beside each model, see `features.feature_spaces`. atlas, labels: image of regions on
        the recordings' grid, and their names; if not given, columns with names (regions that the reader made)
        are regions, else all voxels are one. surface: what maps are drawn on, too, see
        `surfaces.read_surface`. cache_dir: of word vectors; below output_dir if not given.
      max_memory: bytes; 80 % of what there is if not given. command, progress: as of `run_study`.

    Raises: ValueError for a data set without time courses, an atlas or surface of another space, runs too
      short for delays, folds or shifts, and more than memory holds.
    """
    output, cache = outputs.output_and_cache(output_dir, cache_dir)
    names = model_names(models)
    if GROUP in dataset.subjects:
        raise ValueError(
            f"a subject is called {GROUP!r}, as the mean over people: give another name"
        )
    if dataset.time_courses is None:
        scans = [name for name in list_datasets() if "high_pass" in reader_options(name)]
        raise ValueError(
            f"{dataset.name} has responses to words and no time courses, which encoding predicts: take a "
            f"data set of scans ({', '.join(scans)})"
        )
    if labels is not None and atlas is None:
        raise ValueError(
            "labels name the regions of an atlas, but no atlas is given: give atlas= too"
        )
    features.check_nuisances(dataset.stimulus, plan)
    drawn_on = surfaces.read_surface(surface) if surface else None
    computing.keep_compiled_programs()
    cache = cache and cache / "embeddings"
    told = Progress(
        {
            _READING: Stage(len(dataset.subjects), 5.0),
            _VECTORS: Stage(len(models), 20.0),
            _SCORES: Stage(len(models), 60.0),
        },
        show=progress,
    )
    if drawn_on and (missing := surfaces.page_missing()):
        told.note(missing)
    people = []
    with told.stage(_READING):
        for subject in dataset.subjects:
            people.append(dataset.time_courses(subject))
            if people[-1].stimulus.words != dataset.stimulus.words:
                raise ValueError(
                    f"subject {subject} has other words than {dataset.name}: encoding takes people with the "
                    "same words; leave the subject out"
                )
            _check_delays(people[-1], plan)
            surfaces.check(people[-1].space, drawn_on)
            told.update()
    regions = places.own_regions(people)
    if atlas is not None:
        named = None if labels is None else user_path(labels, "labels", "a file of names")
        regions = places.atlas_regions(people, user_path(atlas, "atlas", "an image"), named)
    clocks, how = _clocks(people, plan, spaces)
    tables, divided, maps, facts = [], [], [], []
    with told.stage(_VECTORS):
        several = []
        others = features.feature_spaces(dataset.stimulus, names, spaces, plan, cache=cache)
        of_spaces = (name for space in others for name in space.features)
        asked = replace(plan, nuisances=tuple(dict.fromkeys((*plan.nuisances, *of_spaces))))
        for model in models:
            several.append(features.word_vectors(dataset.stimulus, model, asked, cache=cache))
            told.update()
        for vectors in several if others else ():
            for clock in clocks:
                _check_spaces(clock.people[0], vectors, others, plan)
    with told.stage(_SCORES), computing.Computation().context():
        for number, vectors in enumerate(several, 1):
            rows, of_spaces, own_maps, more = _score_model(
                clocks, vectors, others, plan, regions, number, max_memory, told
            )
            tables += rows
            divided += of_spaces
            maps += own_maps
            facts.append(more)
    table = EncodingTable(
        joined(tables, dataset.name),
        {
            **made_by(command),
            "dataset": {"name": dataset.name, **dataset.meta},
            "subjects": {
                person.subject: {
                    "n_volumes": len(person.values),
                    "n_voxels": person.values.shape[1],
                    "n_left_out": person.n_dropped,
                    "n_runs": len(np.unique(person.run)),
                    "cleaning": person.meta.get("cleaning", {}),
                }
                for person in people
            },
            "models": facts,
            "spaces": [space.name for space in others],
            "tables": features.tables(others),
            "regions": list(regions.names),
            "atlas": None if atlas is None else str(atlas),
            "folds": how,
            "common_space": any(brain.subject == GROUP for brain in maps),
            "n_words": len(dataset.stimulus),
            "stimulus": dataset.stimulus.fingerprint(),
            "plan": asdict(plan),
        },
        {(brain.model, brain.subject): brain for brain in maps},
        joined_spaces(divided, dataset.name) if others else None,
    )
    if output is not None:
        with outputs.new_outputs(output) as new:
            noted = report.write_outputs(table, new, drawn_on)
            told.note(noted) if noted else None
    return table


def _check_delays(person: TimeCourses, plan: VoxelEncoding) -> None:
    """Raise ValueError for a run that is no longer than the delays of the design."""
    trs = repetition_times(person.times, person.run)
    for label, tr in trs.items():
        count = int((person.run == label).sum())
        default = (
            (0.0,) if plan.design == "hrf" else np.round(np.array(FIR_SECONDS) / max(tr, 1e-3))
        )
        longest = max(np.abs(plan.delays if plan.delays is not None else default))
        if count <= longest + 1:
            raise ValueError(
                f"subject {person.subject}: run {label} has {count} volumes, too few for a delay of "
                f"{longest:g} volumes: give shorter --delays, or leave the run out"
            )


def _clocks(
    people: Sequence[TimeCourses], plan: VoxelEncoding, spaces: Sequence[str | Embeddings]
) -> tuple[list[Clock], str]:
    """The people by their clocks, and how the volumes are folded, in words."""
    of_spaces = (name for space in spaces if isinstance(space, str) for name in space.split("+"))
    asked = (*plan.nuisances, *of_spaces)
    groups: dict[tuple, list[TimeCourses]] = {}
    for person in people:
        words = person.stimulus
        parts = [words.onsets, words.durations, words.run, words.sentence, person.times, person.run]
        parts += [words.attribute(name) for name in asked if name in words.attributes]
        key = tuple(None if part is None else np.asarray(part).tobytes() for part in parts)
        groups.setdefault(key, []).append(person)
    clocks, said = [], []
    for members in groups.values():
        first = members[0]
        n_runs = len(np.unique(first.run))
        by_run = plan.folds == "runs" or (plan.folds == "auto" and n_runs >= 3)
        if by_run:
            folds = volumes.run_folds(first.run, n_folds=plan.n_folds, n_inner=plan.n_inner)
            said.append(f"{len(folds.train)} folds of whole runs ({n_runs} runs)")
        else:
            folds = volumes.time_folds(
                first.times, first.run, n_folds=plan.n_folds, n_inner=plan.n_inner, purge=plan.purge
            )
            runs = "one run" if n_runs == 1 else f"{n_runs} runs"
            said.append(
                f"{plan.n_folds} contiguous folds of volumes, {plan.purge:g} s on either side left out "
                f"({runs})"
            )
        shifts = volumes.shifted_rows(
            first.run, first.times, n_shifts=plan.n_shifts, least=0.0, random_state=plan.seed
        )
        clocks.append(Clock(members, folds, shifts, _ceilings(members, folds)))
    return clocks, "; ".join(dict.fromkeys(said))


def _ceilings(people: Sequence[TimeCourses], folds: volumes.TimeFolds) -> list[np.ndarray]:
    """How well the others' mean predicts each person, [V] each, at the places that all have."""
    ceilings = [np.full(person.values.shape[1], np.nan) for person in people]
    columns = places.common_columns(people) if len(people) > 1 else None
    if columns is None:
        return ceilings
    total = 0.0
    for person, own in zip(people, columns, strict=True):
        total = total + volumes.unit_columns(person.values[:, own])
    for person, own, ceiling in zip(people, columns, ceilings, strict=True):
        values = volumes.unit_columns(person.values[:, own])
        ceiling[own] = volumes.ceiling(values, total - values, folds)
    return ceilings


def _score_model(
    clocks: Sequence[Clock],
    vectors: features.WordVectors,
    others: Sequence[features.FeatureSpace],
    plan: VoxelEncoding,
    regions: places.Regions,
    number: int,
    max_memory: int | None,
    told: Progress,
) -> tuple[list[pd.DataFrame], list[pd.DataFrame], list[BrainMap], dict]:
    """Rows, rows of spaces, maps and facts of one model, of all people and the group."""
    tables, divided, maps, people, used, plans = [], [], [], [], [], []
    left_out: dict[str, int] = {}
    beside_spaces: list[str] = []
    names = [vectors.model, *(space.name for space in others)] if others else []
    for clock in clocks:
        first = clock.people[0]
        nuisances = features.nuisance_features(first, vectors, plan)
        used = list(nuisances)
        for name, count in scores.unidentified(nuisances, clock.folds).items():
            left_out[name] = max(left_out.get(name, 0), count)
        beside = np.concatenate([np.zeros((len(first.values), 0)), *nuisances.values()], axis=1)
        layers = features.model_features(first, vectors, plan)
        values = [person.values for person in clock.people]
        spaces = []
        if others:
            kept = features.nuisance_features(first, vectors, _beside_spaces(plan, others))
            beside_spaces = list(kept)
            spaces = [features.space_features(first, space, vectors, plan) for space in others]
            spaces = [np.concatenate(layers, axis=1), *spaces]
        held = sizes.planned(
            scores.shapes_of(clock.folds),
            [layer.shape[1] for layer in layers],
            len(first.values),
            [own.shape[1] for own in values],
            plan.n_shifts,
            space_widths=[space.shape[1] for space in spaces],
            max_memory=max_memory,
        )
        told.note(f"{vectors.model}: {held.text()}")
        plans.append(held.text())
        part = (0.5 if others else 1) / len(clocks)
        beside_nuisances = scores.score(
            values, layers, beside, clock.folds, clock.shifts, plan.alphas, held.chunks,
            lambda share, part=part: told.update(0.9 * part * share),
        )  # fmt: skip
        alone = scores.score(
            values, layers, beside[:, :0], clock.folds, clock.shifts[:1], plan.alphas,
            held.chunks._replace(shifts=1),
            lambda share, part=part: told.update(0.1 * part * share),
        )  # fmt: skip
        shares = [None] * len(values)
        if others:
            shares = partition.score(
                values,
                spaces,
                np.concatenate([beside[:, :0], *kept.values()], axis=1),
                clock.folds, plan.ratios, plan.alphas, held.chunks.divided,
                lambda share, part=part: told.update(part * share),
            )  # fmt: skip
        for person, ceiling, own, by_model, share in zip(
            clock.people, clock.ceilings, beside_nuisances, alone, shares, strict=True
        ):
            brain = _person_map(number, person, ceiling, own, by_model, vectors.numbers)
            if share is not None:
                brain = brain._replace(values=brain.values | partition.quantities(share))
                region = regions.of_column[person.subject]
                rows = space_rows(brain.values, names, region, regions.names)
                divided.append(rows.assign(model=vectors.model, subject=person.subject))
            rows = person_rows(
                brain.values,
                own.added,
                regions.of_column[person.subject],
                regions.names,
                person.n_dropped,
            )
            tables.append(rows.assign(model=vectors.model, subject=person.subject))
            maps.append(brain)
            people.append(person)
    for name, count in left_out.items():
        told.note(
            f"{vectors.model}: the nuisance {name} is left out, in part or whole, in {count} of the training "
            "sets of the folds, which do not tell it from the others or hardly vary in it"
        )
    drawn = dict(n_flips=plan.n_flips, n_bootstrap=plan.n_bootstrap, seed=plan.seed)
    group = group_rows(tables, **drawn)
    if len(group):
        of_group = dict(model=vectors.model, subject=GROUP)
        tables = [group.assign(**of_group), *tables]
        if others:
            divided = [group_space_rows(divided, **drawn).assign(**of_group), *divided]
        maps += _group_map(number, people, maps, plan)
    facts = {
        "name": vectors.model,
        "layers": list(vectors.numbers),
        "nuisances": used,
        "left_out_in_folds": left_out,
        "fingerprint": vectors.fingerprint,
        "spaces": names,
        "nuisances_of_spaces": beside_spaces,
        "memory": plans,
    }
    return tables, divided, maps, facts


def _check_spaces(
    first: TimeCourses,
    vectors: features.WordVectors,
    others: Sequence[features.FeatureSpace],
    plan: VoxelEncoding,
) -> None:
    """Raise ValueError for a space that the recording cannot have, or that its nuisances leave nothing of."""
    nuisances = features.nuisance_features(first, vectors, _beside_spaces(plan, others))
    columns = np.concatenate([np.zeros((len(first.values), 0)), *nuisances.values()], axis=1)
    for space in others:
        made = features.space_features(first, space, vectors, plan)
        if not partition.varies_beside(made, columns):
            raise ValueError(
                f"the space {space.name!r} does not vary in the recording of {first.subject}, or is wholly "
                f"explained by the nuisances ({', '.join(nuisances) or 'none'}): leave it out, or give other "
                "--nuisances"
            )


def _beside_spaces(plan: VoxelEncoding, others: Sequence[features.FeatureSpace]) -> VoxelEncoding:
    """The plan without nuisances that a space holds: they would leave nothing of it."""
    held = {name for space in others for name in space.in_place_of}
    return replace(plan, nuisances=tuple(name for name in plan.nuisances if name not in held))


def _person_map(
    number: int,
    person: TimeCourses,
    ceiling: np.ndarray,
    own: scores.VoxelScores,
    alone: scores.VoxelScores,
    layers: Sequence[int],
) -> BrainMap:
    chosen = scores.chosen_layer(own.layers)
    values = {
        "r": own.r,
        "r2": own.r2,
        "r_nuisances": own.r_nuisances,
        "r2_nuisances": own.r2_nuisances,
        "r_model": alone.r,
        "r2_model": alone.r2,
        "unique_r": own.added[0].astype(np.float64),
        "unique_r2": own.r2 - own.r2_nuisances,
        "ceiling": ceiling,
        "omega": scores.reached_by_nuisances(own.r2, own.r2_nuisances, alone.r2),
        "layer": np.where(chosen == scores.NONE, scores.NONE, np.asarray(layers)[chosen]),
        **evidence.by_shifts(own.added)._asdict(),
    }
    return BrainMap(
        number,
        person.subject,
        {name: values[name] for name in MAPS},
        person.space,
        person.feature_names,
    )


def _group_map(
    number: int, people: Sequence[TimeCourses], maps: Sequence[BrainMap], plan: VoxelEncoding
) -> list[BrainMap]:
    """The mean over people where all have a column, with p-values by sign flips; [] without such columns."""
    columns = places.common_columns(people)
    if columns is None:
        return []
    several = {
        name: np.stack([brain.values[name][own] for brain, own in zip(maps, columns, strict=True)])
        for name in maps[0].values
        if name in QUANTITIES or name.startswith("space")
    }
    means = {name: values.mean(axis=0) for name, values in several.items()}
    tested = evidence.by_sign_flips(several["unique_r"], plan.n_flips, plan.seed)
    first, own = people[0], columns[0]
    return [
        BrainMap(
            number,
            GROUP,
            means | tested._asdict(),
            None if first.space is None else first.space.select(own),
            None
            if first.feature_names is None
            else tuple(first.feature_names[column] for column in own),
        )
    ]
