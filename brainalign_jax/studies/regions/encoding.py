"""Does a language model explain regions' time courses beyond word rate, sound power and the like?

Word vectors become features at the volumes (`neural.readout.encoding`), and ridge predicts each region's time
course from them, alone and beside nuisances with a light penalty. Everything is fitted on training volumes,
layer and penalties chosen in inner folds. What a model adds to the nuisances is the difference of two
correlations; it is compared with recordings whose time courses, less their fit by the nuisances, are turned
in a circle, and with what an untrained twin adds.

`studies.encoding` cannot ask this: there each person and voxel has a layer and penalty of its own, and the
group's p are flips of people's signs. Here people on one clock share layer, penalties and each shift, so that
the mean over people itself has a null distribution, with nothing assumed of how people vary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.files import output_folder
from brainalign_jax.language import embed
from brainalign_jax.studies.options import Encoding
from brainalign_jax.studies.regions import report
from brainalign_jax.studies.regions import scores as region_scores
from brainalign_jax.studies.regions.recordings import RegionRecordings
from brainalign_jax.studies.regions.table import RegionTable, effect_rows
from brainalign_jax.study import computation as computing
from brainalign_jax.study.manifest import made_by
from brainalign_jax.study.names import UNTRAINED
from brainalign_jax.study.score import volumes
from brainalign_jax.study.words import token_features

# Sets of nuisances, from few to many; the models are compared with the last two.
NUISANCES = ("rate", "sound_power", "frequency", "length")
SETS = (("rate",), ("sound_power",), ("rate", "sound_power"), NUISANCES)
PRIMARY = ("rate", "sound_power")


def run_region_encoding(
    recordings: RegionRecordings,
    model: str,
    output_dir: str | Path,
    *,
    encoding: Encoding = Encoding(),
    untrained: bool = True,
    command: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> RegionTable:
    """Score a model beside the nuisances; write region_encoding.parquet, manifest.json, report.html.

    Args:
      recordings: of regions. model: as `embed` takes it. output_dir: of the files. encoding: delays,
        folds, penalties, shifts. untrained: also the model's twin of random weights, where it has one.
      command: recorded in the manifest. progress: is called with each line of what is being done.

    Raises: ValueError or FileNotFoundError for what the model, the folds or the shifts lack.
    """
    output = output_folder(output_dir, "output_dir")
    computing.keep_compiled_programs()
    names = [model]
    if untrained and not model.startswith((UNTRAINED, "static:")):
        names.append(UNTRAINED + model)
    features = {}
    for name in names:
        progress(f"vectors of {name}")
        features[name] = word_features(recordings, name, encoding)
    table = score_regions(recordings, features, encoding=encoding, progress=progress)
    table = RegionTable(table.rows, table.manifest | made_by(command))
    return table.finished(output, report.write_region_report)


def word_features(recordings: RegionRecordings, model: str, encoding: Encoding) -> list[np.ndarray]:
    """The model's features at the volumes, [N, D] of every layer: vectors of the words in their context."""
    where = recordings.stimulus, recordings.times, recordings.run
    vectors = embed(
        recordings.stimulus,
        model,
        context=encoding.context,
        window=encoding.window,
        pooling=encoding.pooling,
        level="token",
        seed=encoding.seed,
    )
    return [
        volumes.at_volumes(*where, layer, encoding)
        for _, block in vectors.blocks()
        for layer in block
    ]


def nuisance_features(recordings: RegionRecordings, encoding: Encoding) -> dict[str, np.ndarray]:
    """Nuisance -> [N, K] at the volumes: as computed from the words, beside what the release gives.

    The word rate goes through the very design of the models' features, whose common part it is.
    """
    tokens = token_features(recordings.stimulus)
    centred = {name: values - values.mean() for name, values in tokens.items()}
    words = {
        "rate": np.ones(len(recordings.stimulus)),
        "frequency": centred["log_frequency"],
        "length": centred["letters"],
    }
    where = recordings.stimulus, recordings.times, recordings.run
    features = {}
    for name in NUISANCES:
        columns = []
        if name in words:
            columns.append(volumes.at_volumes(*where, words[name][:, None], encoding))
        if name in recordings.shipped:
            shipped = np.asarray(recordings.shipped[name], np.float64)
            columns.append(shipped.reshape(len(shipped), -1))
        if columns:
            features[name] = np.concatenate(columns, axis=1)
    return features


def score_regions(
    recordings: RegionRecordings,
    features: Mapping[str, Sequence[np.ndarray]],
    *,
    encoding: Encoding = Encoding(),
    progress: Callable[[str], None] = lambda text: None,
) -> RegionTable:
    """Scores of nuisances, models, and both together, with nulls, intervals and ceilings.

    features: model -> layers of [N, D] at the volumes; the first model is the one asked about, and
    "untrained:" before its name makes another its twin.
    """
    folds = volumes.time_folds(
        recordings.times,
        recordings.run,
        n_folds=encoding.n_folds,
        n_inner=encoding.n_inner,
        purge=encoding.purge,
    )
    turned = volumes.shifted_rows(
        recordings.run,
        recordings.times,
        n_shifts=encoding.n_shifts,
        least=encoding.least_shift,
        random_state=encoding.seed,
    )
    nuisances = nuisance_features(recordings, encoding)
    sets = list(dict.fromkeys(tuple(n for n in group if n in nuisances) for group in SETS))
    sets = [group for group in sets if group]
    bold = np.asarray(recordings.bold, np.float64)
    alphas = (*encoding.alphas, np.inf)
    penalties = folds, encoding.lambdas, alphas
    nothing = np.zeros((len(bold), 0))
    rows = []

    def beside(names):
        return np.concatenate([nuisances[name] for name in names], axis=1) if names else nothing

    def score(choices, targets):
        return region_scores.score(choices, folds, targets)

    def add(model, names, metric, values, null=None, chosen=None):
        rows.append(
            effect_rows(
                recordings,
                {"model": model, "nuisances": "+".join(names), "metric": metric},
                values,
                null,
                chosen=chosen,
                n_bootstrap=encoding.n_bootstrap,
                random_state=encoding.seed,
            )
        )

    with computing.Computation().context():
        whole = region_scores.shifted(bold, turned)
        add("", (), "ceiling", region_scores.ceiling(bold, folds))
        for names in sets:
            progress(f"nuisances: {', '.join(names)}")
            scores = score(region_scores.prepare([], beside(names), *penalties), whole)
            add("", names, "r", scores.correlation[0], scores.correlation[1:])
            add("", names, "r2", scores.r2[0])
        for model, layers in features.items():
            progress(f"{model} alone")
            scores = score(region_scores.prepare(layers, nothing, *penalties), whole)
            chosen = chosen_layers(scores, 1, alphas)
            add(model, (), "r", scores.correlation[0], scores.correlation[1:], chosen)
            add(model, (), "r2", scores.r2[0])
        for names in sets[-2:]:
            kept = region_scores.shifted_residuals(bold, beside(names), turned)
            alone = score(region_scores.prepare([], beside(names), *penalties), kept)
            unique = {}
            for model, layers in features.items():
                progress(f"{model} beside {', '.join(names)}")
                joint = score(region_scores.prepare(layers, beside(names), *penalties), kept)
                chosen = chosen_layers(joint, len(encoding.lambdas), alphas)
                unique[model] = joint.correlation - alone.correlation
                add(model, names, "r", joint.correlation[0], chosen=chosen)
                add(model, names, "r2", joint.r2[0])
                add(model, names, "unique_r", unique[model][0], unique[model][1:], chosen)
                add(model, names, "unique_r2", joint.r2[0] - alone.r2[0])
            first, twin = next(iter(unique)), UNTRAINED + next(iter(unique))
            if twin in unique:
                more = unique[first] - unique[twin]
                add(first, names, "unique_r_over_untrained", more[0], more[1:])
    return RegionTable(
        pd.concat(rows, ignore_index=True),
        {
            "dataset": {"name": recordings.dataset, **recordings.meta},
            "subjects": list(recordings.subjects),
            "regions": {name: recordings.labels.get(name, name) for name in recordings.regions},
            "parts": list(dict.fromkeys(recordings.parts)),
            "models": {name: {"n_layers": len(layers)} for name, layers in features.items()},
            "model": next(iter(features)),
            "nuisance_sets": [list(names) for names in sets],
            "compared_with": [list(names) for names in sets[-2:]],
            "n_volumes": len(bold),
            "n_words": len(recordings.stimulus),
            "stimulus": recordings.stimulus.fingerprint(),
            "encoding": asdict(encoding),
        },
    )


def chosen_layers(
    scores: region_scores.Scores, n_lambdas: int, alphas: Sequence[float]
) -> list[str]:
    """Region by region the layers chosen in the outer folds for the true recording, "-" for none."""
    candidate = scores.chosen[:, 0]
    layer = candidate // (n_lambdas * len(alphas))
    none = np.isinf(np.asarray(alphas)[candidate % len(alphas)])
    return [
        " ".join("-" if empty else str(index) for index, empty in zip(*region, strict=True))
        for region in zip(layer.T, none.T, strict=True)
    ]
