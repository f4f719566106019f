"""Noise ceilings of decoding and encoding: the other subjects' brains in the place of the language model.

What a perfect model of the group could score is asked of the group itself. For each subject the other
subjects' responses to the same words become "word vectors", and they go through the same pipeline as a
model's: same folds, same method, same choice of alpha, same candidates. P@k of brain from brain is the
ceiling that P@k of brain from model is compared with; with the roles exchanged, as vectors that
`neural.readout.encoding` predicts responses from, it is that of encoding.

It is a lower bound. The others' responses are noisy themselves, and S - 1 subjects average out less
noise than a model of infinitely many would; a model may score above it. It is also an upper bound of
nothing that all subjects share by accident: where the words' order was the same for all, shared drifts,
word rate or sound count as signal here. Take the same null for it as for the models.

The other subjects' "layers" are the first 4, 8, 16, ... principal axes of all of them side by side, of which
the inner folds choose. Reference: Nili et al. (2014), PLoS Comput. Biol. 10:e1003553, for RDMs.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.inner_products import of_zero_mean
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.context import Study
from brainalign_jax.study.results import POOLED, SELECTED
from brainalign_jax.study.score import group_kernels, preparation, sweep
from brainalign_jax.study.score.methods import method_of

OTHERS = "others of "


def scaled_kernel(recording: WordResponses, *, lower: bool = False) -> np.ndarray:
    """Inner products [T, T] of a subject's mean responses to the word types, of unit total variance."""
    kernel, present = group_kernels.type_kernel(recording, lower=lower)
    return kernel / group_kernels.total_variance(kernel, present)


COLUMNS = ("subject", "method", "metric", "k", "value")


def score_ceilings(study: Study) -> pd.DataFrame:
    """P@k (CSLS) and rank accuracy of each subject and method by the other subjects, with COLUMNS.

    Methods that correlate responses over the voxels (rsa) are given the others' responses less each word's
    mean in each person. No rows where there is one subject only, and none of methods that rank voxels
    (`form_kernels`). Subjects are read one after the other, twice.
    """
    dataset, scoring = study.dataset, study.scoring
    if len(dataset.subjects) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    protocol = dataclasses.replace(scoring.protocol, layer_selection="inner_folds", vector_axes=0)
    by_form: dict[str, list[str]] = {}
    for name in scoring.decoders:
        by_form.setdefault(method_of(name, protocol).form, []).append(name)
    kernels = form_kernels(map(dataset.load, dataset.subjects), by_form, lower=scoring.lower)
    totals = {form: sum(of_people) for form, of_people in kernels.items() if of_people}
    tables: dict[str, list[pd.DataFrame]] = {form: [] for form in totals}
    for number, subject in enumerate(dataset.subjects if totals else ()):
        responses = dataset.load(subject)
        for form, total in totals.items():
            kernel, name = total - kernels[form][number], f"{OTHERS}{subject}"
            of_others = dataclasses.replace(
                scoring,
                protocol=protocol,
                methods=tuple(by_form[form]),
                ks=(study.k,),
                layers=None,
            )
            rows = sweep.score_subjects(
                dataset.name,
                [responses],
                _layers(kernel, form, name, dataset, lower=scoring.lower),
                of_others,
                computation=study.computation,
            )
            wanted = rows["metric"].isin(["precision_csls", "rank_accuracy"])
            wanted &= (rows["fold"] == POOLED) & (rows["layer"] == SELECTED)
            tables[form].append(rows.loc[wanted, list(COLUMNS)])
            study.progress.update(1 / len(totals))
    if not totals:
        study.progress.update(len(dataset.subjects))
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat([table for of_form in tables.values() for table in of_form], ignore_index=True)


def form_kernels(
    people: Iterable[WordResponses], forms: Iterable[str], *, lower: bool = False
) -> dict[str, list[np.ndarray]]:
    """By form of `preparation.prepare_responses`, `scaled_kernel` of each person's responses in it.

    Empty of "values", whose ranks over the voxels no kernel holds, and where the responses of one feature
    would be "centred", which leaves nothing.
    """
    kernels: dict[str, list[np.ndarray]] = {form: [] for form in forms}
    wanted = [form for form in kernels if form != "values"]
    for person in people if wanted else ():
        for form in tuple(wanted):
            in_form = person
            if form == "centred":
                values = preparation.row_centred(np.asarray(person.values))
                if not values.any():
                    kernels[form] = []
                    wanted.remove(form)
                    continue
                in_form = dataclasses.replace(person, values=values)
            kernels[form].append(scaled_kernel(in_form, lower=lower))
    return kernels


def form_rows(kernel: np.ndarray, form: str, *, dtype: str = "float32") -> np.ndarray:
    """Rows [T, R] with the inner products of a kernel of `form_kernels`.

    Those of "centred" responses have a mean of zero over the axes, too, so that their correlations are those
    over the voxels: rotated axes would have means of their own.
    """
    rows = group_kernels.spanned_rows(kernel, dtype=dtype)
    return of_zero_mean(rows) if form == "centred" else rows


def _layers(
    kernel: np.ndarray, form: str, name: str, dataset: Dataset, *, lower: bool
) -> Embeddings:
    """Vectors [L, T, R] of the subjects side by side, from the sum of their kernels [T, T].

    Layer l keeps the first 4 * 2^l principal axes, the last one all.
    """
    values = group_kernels.spanned_rows(kernel)
    n_axes = values.shape[1]
    sizes = [*(4 * 2**i for i in range(20) if 4 * 2**i < n_axes), n_axes]
    layers = np.stack([values * (np.arange(n_axes) < size) for size in sizes])
    if form == "centred":
        layers = of_zero_mean(layers)
    meta = {"family": "brain", "n_params": None, "n_layers": len(sizes) - 1}
    return Embeddings(name, dataset.stimulus.types(lower=lower)[0], layers, None, meta)
