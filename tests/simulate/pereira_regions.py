"""Regions of a simulated brain, named as in the tables of Pereira et al. 2018."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_AAL = (
    *("Precentral", "Frontal_Sup", "Frontal_Mid", "Frontal_Inf_Oper", "Frontal_Inf_Tri", "Insula"),
    *("Cingulum_Mid", "Hippocampus", "Amygdala", "Calcarine", "Cuneus", "Lingual", "Occipital_Mid"),
    *("Fusiform", "Postcentral", "Parietal_Sup", "Angular", "Precuneus", "Putamen", "Thalamus"),
    *("Heschl", "Temporal_Sup", "Temporal_Mid", "Temporal_Inf", "Cerebelum_Crus1"),
)
_GORDON = (
    *("Default", "SMhand", "SMmouth", "Visual", "FrontoParietal", "Auditory", "None"),
    *("CinguloParietal", "RetrosplenialTemporal", "CinguloOperc", "VentralAttn", "Salience"),
    "DorsalAttn",
)
# Regions of the functional localisers: name -> centre, from -1 to 1 along each axis of the brain.
_LANGUAGE = {
    "PostTemp": (0.6, -0.4, 0.1),
    "AntTemp": (0.6, 0.2, -0.3),
    "AngG": (0.5, -0.6, 0.3),
    "IFG": (0.5, 0.4, 0.1),
    "MFG": (0.4, 0.3, 0.5),
    "IFGorb": (0.4, 0.5, -0.2),
}
_LOCALISERS = {
    "languageLH": {f"LH_{name}": (-x, y, z) for name, (x, y, z) in _LANGUAGE.items()},
    "languageRH": {f"RH_{name}": centre for name, centre in _LANGUAGE.items()},
    "visual_body": {"LH_EBA": (-0.5, -0.7, 0.0), "RH_EBA": (0.5, -0.7, 0.0)},
    "visual_scene": {"LH_PPA": (-0.3, -0.4, -0.2), "RH_PPA": (0.3, -0.4, -0.2)},
}
_SHARE = 0.004  # of the voxels, in each region of a localiser


def brain_regions(place: np.ndarray, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """atlas -> region -> columns from 0, of voxels at place [V, 3], from -1 to 1 along each axis.

    Regions of "aal" and "gordon" do not overlap and leave the outermost voxels out; those of the
    localisers ("languageLH", ...) are the voxels next to a centre, in rising order.
    """
    gordon = [
        f"ROI{number}_{_GORDON[number % len(_GORDON)]}_{'LR'[number % 2]}_{number % 60}.5_"
        f"{number % 70 - 35}.0_12.1"
        for number in range(1, 334)
    ]
    by_atlas = {
        "aal": _parcels(place, [f"{name}_{side}" for name in _AAL for side in "LR"], seed),
        "gordon": _parcels(place, gordon, seed + 1),
    }
    tree, size = cKDTree(place), max(1, round(_SHARE * len(place)))
    for atlas, regions in _LOCALISERS.items():
        by_atlas[atlas] = {
            name: np.sort(np.atleast_1d(tree.query(centre, k=size)[1]))
            for name, centre in regions.items()
        }
    return by_atlas


def _parcels(place: np.ndarray, names: list[str], seed: int) -> dict[str, np.ndarray]:
    """Every voxel in the parcel of the nearest of random voxels."""
    names = names[: max(2, len(place) // 5)]
    rng = np.random.default_rng([seed, len(names)])
    centres = place[np.sort(rng.choice(len(place), len(names), replace=False))]
    nearest = cKDTree(centres).query(place)[1]
    distance = np.linalg.norm(place, axis=1)
    nearest[distance > 0.95 * distance.max()] = -1
    return {name: np.flatnonzero(nearest == number) for number, name in enumerate(names)}
