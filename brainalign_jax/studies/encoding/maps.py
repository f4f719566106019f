"""Maps of quantities in the space of the recordings: images, projections, and a page to turn around."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from brainalign_jax.files import new_file
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO

_LARGEST_PAGE = 10 * 2**20  # bytes
PAGE = "map.html"


class BrainMap(NamedTuple):
    """Quantities [V] of the columns of a space, of one person or the group and one model."""

    model: int
    subject: str
    values: Mapping[str, np.ndarray]
    space: VoxelSpace | None
    names: tuple[str, ...] | None


def write_images(brain: BrainMap, folder: Path) -> list[str]:
    """Write one image a quantity, `model-1_SUBJECT_QUANTITY.nii.gz`; their names, none without a space.

    Surfaces: a `.func.gii` a hemisphere; CIFTI-2: `.dscalar.nii`. Voxels that were not scored hold NaN.
    """
    if brain.space is None:
        return []
    folder.mkdir(exist_ok=True)
    plain = re.sub(r"[^\w.-]+", "_", brain.subject)[:80]
    stem, written = f"model-{brain.model}_{plain}", []
    # Names that are alike but for signs or case, which not every disk tells apart.
    there = {path.name.casefold() for path in folder.iterdir()}
    number = 1
    while any(name.startswith(f"{stem}_r2".casefold()) for name in there):
        number += 1
        stem = f"model-{brain.model}_{plain}-{number}"
    for name, values in brain.values.items():
        image = brain.space.to_image(values, fill=np.nan)
        sides = zip("LR", image, strict=True) if isinstance(image, tuple) else [("", image)]
        for side, part in sides:
            if part is None:
                continue
            ending = {"surface": f"_hemi-{side}.func.gii", "cifti": ".dscalar.nii"}
            path = folder / f"{stem}_{name}{ending.get(brain.space.kind, '.nii.gz')}"
            part.to_filename(path)
            written.append(path.name)
    return written


def draw(brain: BrainMap, quantity: str, label: str) -> Figure:
    """A quantity seen through the brain from three sides, the highest voxel of each line of sight; of other
    spaces than volumes its distribution over columns, of few named columns a bar each."""
    values = brain.values[quantity]
    if _has_sides(brain):
        return _projections(brain.space, values, label)
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axis = figure.subplots()
    known = values[np.isfinite(values)]
    if _has_bars(brain):
        figure.set_figheight(1.2 + 0.22 * len(values))
        axis.barh(brain.names[::-1], values[::-1], color=OKABE_ITO[0])
        axis.set_xlabel(label)
    else:
        axis.hist(known, bins=60, color=OKABE_ITO[0])
        axis.set_xlabel(label)
        axis.set_ylabel("columns")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def how_drawn(brain: BrainMap) -> str:
    """What a caption says of how `draw` shows the map."""
    if _has_sides(brain):
        return "Each point is the highest value in its line of sight; below zero is white."
    return (
        "One bar for each column of the data."
        if _has_bars(brain)
        else "Bars: how many columns of the data have a value."
    )


def _has_sides(brain: BrainMap) -> bool:
    return brain.space is not None and brain.space.kind in ("volume", "atlas")


def _has_bars(brain: BrainMap) -> bool:
    return brain.names is not None and len(brain.names) <= 60


def _projections(space: VoxelSpace, values: np.ndarray, label: str) -> Figure:
    image = space.to_image(values, fill=np.nan)
    data = np.asarray(image.dataobj, np.float32)
    # Axes as a reader expects them, whatever the file's order: left to right, back to front, bottom to top.
    import nibabel as nib

    turned = nib.as_closest_canonical(nib.Nifti1Image(data, image.affine))
    data, sizes = turned.get_fdata(dtype=np.float32), turned.header.get_zooms()[:3]
    inside = np.isfinite(data)
    box = tuple(
        slice(
            np.flatnonzero(inside.any(axis=others))[0],
            np.flatnonzero(inside.any(axis=others))[-1] + 1,
        )
        for others in ((1, 2), (0, 2), (0, 1))
    )
    data, inside = data[box], inside[box]
    top = max(float(np.nanmax(values)), 1e-3)
    views = {"from the side": 0, "from behind": 1, "from above": 2}
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    colours = LinearSegmentedColormap.from_list("scores", ["white", OKABE_ITO[4], OKABE_ITO[1]])
    shown = None
    for panel, (name, axis) in zip(axes, views.items(), strict=True):
        flat = np.where(inside, data, -np.inf).max(axis=axis)
        flat = np.where(inside.any(axis=axis), flat, np.nan)
        wide, high = (size for number, size in enumerate(sizes) if number != axis)
        shown = panel.imshow(
            flat.T, origin="lower", cmap=colours, vmin=0, vmax=top, aspect=high / wide
        )
        if min(flat.shape) > 1:  # of one layer of voxels there is no outline
            panel.contour(inside.any(axis=axis).T, levels=[0.5], colors=GREY, linewidths=0.6)
        panel.set_title(name, fontsize=10)
        panel.set_axis_off()
    figure.colorbar(shown, ax=list(axes), shrink=0.8, label=label)
    return figure


def write_page(brain: BrainMap, quantity: str, folder: Path) -> str:
    """Write map.html, which turns and shows values without a network; "" or, where it could not, why."""
    if brain.space is None or brain.space.kind not in ("volume", "atlas"):
        return f"there is no {PAGE}: it is made of recordings in volumes"
    try:
        from nilearn import plotting
    except ImportError:
        return f"there is no {PAGE}: it needs nilearn, pip install nilearn"
    image = brain.space.to_image(np.nan_to_num(brain.values[quantity]))
    # Flat images have no extent to turn.
    if min(image.shape[:3]) < 2:
        return f"there is no {PAGE}: the volumes are flat"
    view = plotting.view_img(
        image,
        bg_img=None,
        threshold=1e-6,
        black_bg=False,
        symmetric_cmap=False,
        title="",
        cmap="inferno",
    )
    return write_view(view, folder / PAGE)


def write_view(view, path: Path) -> str:
    """Write a page of nilearn's that needs no network; "" or, where it is too large, so in words."""
    # It names an icon in the network, which an offline page does without.
    content = re.sub(r"<link[^>]*https?://[^>]*>", "", view.get_standalone()).encode()
    if len(content) > _LARGEST_PAGE:
        return f"there is no {path.name}: it would have {len(content) / 2**20:.0f} MB"
    with new_file(path) as file:
        file.write(content)
    return ""
