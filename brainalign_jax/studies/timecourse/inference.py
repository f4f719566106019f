"""What of a time course could be chance: the largest of all windows and layers, and clusters over people."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np

from brainalign_jax.align.stats import bootstrap
from brainalign_jax.studies.timecourse.decoding import WindowScores
from brainalign_jax.study.evidence.chance import mean_interval, permutation_p

_MOST_HELD = 2**32  # bytes of resamples, and of all people's draws
FEWEST_PEOPLE = 6  # of fewer there are hardly enough sign flips for a p below .05
NO_MNE = (
    "Clusters were not tested, as MNE-Python is not installed (pip install 'brainalign_jax[mne]'): the "
    "largest statistic over windows and layers stands alone."
)


def few_people(count: int) -> str:
    """Why clusters were not tested of so few people."""
    return (
        f"Clusters over people were not tested: {count} are fewer than {FEWEST_PEOPLE}; the largest "
        "statistic over windows and layers stands alone."
    )


def check_sizes(
    *, n_windows: int, n_layers: int, n_bootstraps: int, n_nulls: int, n_people: int
) -> None:
    """Raise ValueError where the resamples or the draws of a model would take more than is meant for them."""
    cells = n_windows * n_layers
    for option, count in (("n_bootstraps", n_bootstraps), ("n_nulls", n_nulls)):
        needed = 8 * cells * count * (n_people if option == "n_nulls" else 1)
        if needed > _MOST_HELD:
            raise ValueError(
                f"{option}={count:,} of {n_windows:,} windows and {n_layers} layers takes "
                f"{needed / 2**30:.1f} GiB, more than the {_MOST_HELD / 2**30:.0f} that are for it: give a "
                f"smaller {option}, a larger step or fewer layers"
            )


def p_values(
    values: np.ndarray, null: np.ndarray, *, shifts: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(p of each cell, p corrected over all cells by the largest of each draw) of values [W, L].

    null: [P, W, L]. NaN where there are no draws. shifts: see `permutation_p`.
    """
    if not len(null):
        nothing = np.full(values.shape, np.nan)
        return nothing, nothing
    flat = null.reshape(len(null), -1)
    single = permutation_p(values.ravel(), flat)
    corrected = permutation_p(values.ravel(), flat.max(axis=1), shifts=shifts)
    return np.reshape(single, values.shape), np.reshape(corrected, values.shape)


def p_over_models(models: Sequence[Sequence[WindowScores]], *, shifts: bool) -> np.ndarray:
    """p [M] of the group's best window and layer of each model, corrected over the models as well.

    models: each person's scores by one method, of every model, whose draws are the same: the largest of all
    windows, layers and models in each draw. NaN where there are no draws. shifts: see `permutation_p`.
    """
    best, largest = [], []
    for people in models:
        best.append(np.mean([person.compared for person in people], axis=0).max())
        n_draws = min(len(person.null) for person in people)
        group = np.mean([person.null[:n_draws] for person in people], axis=0)
        largest.append(group.max(axis=(1, 2), initial=-np.inf))
    n_draws = min(map(len, largest))
    if not n_draws:
        return np.full(len(best), np.nan)
    highest = np.max([of_model[:n_draws] for of_model in largest], axis=0)
    return permutation_p(np.array(best), highest, shifts=shifts)


def cluster_p(values: np.ndarray, *, n_flips: int, seed: int) -> np.ndarray | None:
    """p [W, L] of the cluster that each cell is in, for values [S, W, L] less what chance gives; 1 outside.

    By MNE's permutation of signs of people, clusters being of neighbouring windows and layers (Maris and
    Oostenveld 2007). None where MNE-Python is not installed.
    """
    try:
        import mne
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mne":
            raise
        return None
    import mne.stats
    import scipy.stats

    known = inspect.signature(mne.stats.permutation_cluster_1samp_test).parameters
    n_people, n_windows, n_layers = values.shape
    flat = values.reshape(n_people, -1)
    spread = flat.std(axis=0)
    flat = np.where(spread > 0, flat, 0)
    _, clusters, p, _ = mne.stats.permutation_cluster_1samp_test(
        flat,
        threshold=float(scipy.stats.t.ppf(0.95, n_people - 1)),
        n_permutations=n_flips + 1,
        tail=1,
        adjacency=mne.stats.combine_adjacency(n_windows, n_layers),
        out_type="mask",
        verbose="error",
        **{"rng" if "rng" in known else "seed": seed},  # versions before 1.13 call it seed
    )
    p_of_cells = np.ones(flat.shape[1])
    for mask, of_cluster in zip(clusters, p, strict=True):
        p_of_cells[mask] = np.minimum(p_of_cells[mask], of_cluster)
    return p_of_cells.reshape(n_windows, n_layers)


def people_interval(
    values: np.ndarray, *, n_bootstraps: int, confidence: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds [W, L] of the mean over people of values [S, W, L]; NaN of one person."""
    if len(values) < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    bounds = mean_interval(
        values.reshape(len(values), -1),
        n_bootstrap=n_bootstraps,
        confidence=confidence,
        seed=seed,
    )
    return tuple(bound.reshape(values.shape[1:]) for bound in bounds)


def resampled(
    values: np.ndarray, items: list[tuple[np.ndarray, np.ndarray]] | None, *, n: int, seed: int
) -> tuple[np.ndarray, str] | None:
    """(group scores [B, W, L] of people, or of words where people are few, drawn anew; which of both).

    values: [S, W, L]. items: of each person scores [W, L, I] and word types [I], None where there are none.
    None where neither can be drawn.
    """
    n_people = len(values)
    if n_people >= FEWEST_PEOPLE:
        counts = bootstrap.draw_counts(n_people, n, random_state=seed)
        return np.tensordot(counts, values, 1) / n_people, "people"
    if items is None:
        return None
    types = np.unique(np.concatenate([known for _, known in items]))
    total = np.zeros((*values.shape[1:], len(types)))
    count = np.zeros(len(types))
    for scores, known in items:
        places = np.searchsorted(types, known)
        total[:, :, places] += np.nan_to_num(scores)
        count[places] += 1
    means = total / count
    counts = bootstrap.draw_counts(len(types), n, random_state=seed)
    return np.einsum("bi,wli->bwl", counts, means, optimize=True) / len(types), "words"
