"""Maps on the surface of the brain: a figure from four sides and a page to turn, drawn by nilearn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from brainalign_jax.files import user_path
from brainalign_jax.neural.formats.images.grayordinates import HEMISPHERES, check_hemisphere
from brainalign_jax.neural.formats.images.images import load_image
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.space.surfaces import CiftiSpace, SurfaceSpace
from brainalign_jax.studies.encoding.maps import BrainMap, write_view
from brainalign_jax.study.report.figure_parts import OKABE_ITO

FSAVERAGE = "fsaverage5"
PAGE = "surface.html"
# Of a white brain on a white page nothing is seen.
_COLOURS = LinearSegmentedColormap.from_list("surface", ["#dcdcdc", OKABE_ITO[4], OKABE_ITO[1]])
_GAP = 10.0  # mm between the hemispheres of the page
_CORTEX = "CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT"


class Surface(NamedTuple):
    """Meshes of the left and right hemisphere: coordinates [n, 3] (mm) that are shown, triangles [m, 3], and
    places [n, 3] (mm) at which volumes are sampled."""

    name: str
    shown: tuple[np.ndarray, np.ndarray]
    triangles: tuple[np.ndarray, np.ndarray]
    places: tuple[np.ndarray, np.ndarray]


def read_surface(given: str | Sequence[str]) -> Surface:
    """ "fsaverage5", as nilearn installs it, or two GIFTI surfaces, left and right.

    Raises: ValueError, FileNotFoundError or ImportError in a line, the last without nilearn, which draws.
    """
    given = (given,) if isinstance(given, str) else tuple(given)
    try:
        from nilearn import plotting  # noqa: F401
        from nilearn.datasets import load_fsaverage
    except ImportError as error:
        raise ImportError(
            "maps on surfaces are drawn by nilearn: pip install 'nilearn>=0.11', or leave --surface out"
        ) from error
    if given == (FSAVERAGE,):
        kinds = load_fsaverage(FSAVERAGE)
        sides = [kinds[kind].parts for kind in ("inflated", "pial", "white_matter")]
        shown, pial, white = (
            [np.asarray(part[side].coordinates, np.float64) for side in HEMISPHERES]
            for part in sides
        )
        triangles = tuple(np.asarray(sides[0][side].faces) for side in HEMISPHERES)
        middle = tuple((outer + inner) / 2 for outer, inner in zip(pial, white, strict=True))
        return Surface(FSAVERAGE, tuple(shown), triangles, middle)
    if len(given) != 2:
        raise ValueError(
            f"surface is {', '.join(map(str, given))}: give {FSAVERAGE}, or two GIFTI surfaces, LEFT,RIGHT"
        )
    meshes = [
        _read_mesh(user_path(file, "surface", "a GIFTI surface"), side)
        for file, side in zip(given, HEMISPHERES, strict=True)
    ]
    places, triangles = zip(*meshes, strict=True)
    return Surface(", ".join(map(str, given)), places, triangles, places)


def _read_mesh(path: Path, side: str) -> tuple[np.ndarray, np.ndarray]:
    image = load_image(path, "a GIFTI surface")
    intents = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")
    arrays = [getattr(image, "get_arrays_from_intent", lambda _: [])(intent) for intent in intents]
    if any(len(some) != 1 for some in arrays):
        raise ValueError(
            f"{path} is no GIFTI surface: it needs one array of points and one of triangles"
        )
    points, triangles = (np.asarray(some[0].data) for some in arrays)
    right = points.ndim == triangles.ndim == 2 and points.shape[1] == triangles.shape[1] == 3
    right = right and triangles.size > 0 and triangles.dtype.kind in "iu"
    if not right or not np.isfinite(points).all():
        raise ValueError(
            f"{path}: points {points.shape} and triangles {triangles.shape} make no surface"
        )
    if not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(f"{path} has triangles of points beyond its {len(points)}: write it anew")
    check_hemisphere(image, side, path)
    return points.astype(np.float64), triangles


def check(space: VoxelSpace | None, surface: Surface | None) -> None:
    """Raise ValueError for recordings that cannot be shown on a surface."""
    if surface is None:
        return
    if space is None:
        raise ValueError(
            f"the recordings keep no space: nothing can be shown on {surface.name}; leave --surface out"
        )
    if np.isnan(on_surface(np.zeros(space.n_columns), space, surface)).all():
        raise ValueError(
            f"at no vertex of the surface {surface.name} do the recordings have a column: give surfaces that "
            "they reach, or leave --surface out"
        )


def on_surface(values: np.ndarray, space: VoxelSpace, surface: Surface) -> np.ndarray:
    """Values [V] of a space's columns at all vertices, left then right; NaN where there is none.

    Of volumes the nearest voxel's. Raises: ValueError for a surface of another space.
    """
    sizes = [len(side) for side in surface.places]
    if space.kind in ("volume", "atlas"):
        image = space.to_image(values, fill=np.nan)
        places = np.concatenate(surface.places)
        inverse = np.linalg.inv(image.affine)
        voxels = np.rint(places @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
        inside = ((voxels >= 0) & (voxels < image.shape[:3])).all(axis=1)
        if not inside.any():
            raise ValueError(
                f"no vertex of the surface {surface.name} lies in the recordings' volumes: give surfaces in "
                "their space"
            )
        on_vertices = np.full(sum(sizes), np.nan)
        on_vertices[inside] = np.asarray(image.dataobj)[tuple(voxels[inside].T)]
        return on_vertices
    if isinstance(space, SurfaceSpace):
        there, vertices, side = space.n_vertices, space.vertices, space.hemisphere
    else:
        assert isinstance(space, CiftiSpace)
        structure = space.structure[space.columns]
        sides = [[str(name) == cortex for name in space.names] for cortex in _CORTEX]
        there = [int(space.n_vertices[own].sum()) for own in np.array(sides, bool)]
        kept = np.any(sides, axis=0)[structure]
        values, structure = values[kept], structure[kept]
        vertices, side = (
            space.vertices[space.columns[kept]],
            np.array(sides[1])[structure].astype(int),
        )
    if any(size and size != own for size, own in zip(there, sizes, strict=True)):
        raise ValueError(
            f"the surface {surface.name} has {sizes[0]:,} and {sizes[1]:,} vertices, the recordings' meshes "
            f"{int(there[0]):,} and {int(there[1]):,}: give the surfaces that they are on"
        )
    on_vertices = np.full(sum(sizes), np.nan)
    on_vertices[vertices + sizes[0] * side] = values
    return on_vertices


def draw(brain: BrainMap, quantity: str, label: str, surface: Surface) -> Figure:
    """Both hemispheres from outside and from the middle; needs nilearn."""
    from nilearn.plotting import plot_surf

    values = on_surface(brain.values[quantity], brain.space, surface)
    top = _top(values)
    figure = Figure(figsize=(9.0, 2.6), layout="constrained")
    axes = figure.subplots(1, 4, subplot_kw={"projection": "3d"})
    halves = np.split(values, [len(surface.places[0])])
    for number, panel in enumerate(axes):
        side, view = HEMISPHERES[number // 2], ("lateral", "medial")[number % 2]
        plot_surf(
            [surface.shown[number // 2], surface.triangles[number // 2]],
            np.nan_to_num(halves[number // 2]),
            hemi=side, view=view, cmap=_COLOURS, vmin=0, vmax=top, colorbar=False,
            axes=panel, figure=figure,
        )  # fmt: skip
        panel.set_title(f"{side}, {view}", fontsize=10)
    shown = ScalarMappable(Normalize(0, top), _COLOURS)
    figure.colorbar(shown, ax=list(axes), shrink=0.8, label=label)
    return figure


def _top(values: np.ndarray) -> float:
    """Where colours end, of values with NaN, all of which may be below zero."""
    return max(float(np.nanmax(values, initial=0.0)), 1e-3)


def page_missing() -> str:
    """Why surface.html cannot be made of any map, tried with a triangle; "" where it can."""
    from nilearn.plotting import view_surf

    try:
        view_surf([np.eye(3), np.arange(3)[None]], np.arange(3))
    except ImportError:
        return f"there is no {PAGE}: nilearn needs plotly for it, pip install plotly"
    return ""


def write_page(brain: BrainMap, quantity: str, surface: Surface, folder: Path) -> str:
    """Write surface.html, which turns without a network; "" or, where it could not, why."""
    from nilearn.plotting import view_surf

    missing = page_missing()
    if missing:
        return missing
    values = on_surface(brain.values[quantity], brain.space, surface)
    top = _top(values)
    # As in the figure: what is below zero is as grey as what has no value.
    values = np.fmax(values, 0.0)
    if not values.any():
        return f"there is no {PAGE}: no value on the surface is above zero"
    left, right = surface.shown
    apart = np.array([left[:, 0].max() - right[:, 0].min() + _GAP, 0, 0])
    mesh = [
        np.concatenate([left, right + apart]),
        np.concatenate([surface.triangles[0], surface.triangles[1] + len(left)]),
    ]
    view = view_surf(
        mesh, values, cmap="inferno", symmetric_cmap=False, vmin=0, vmax=top, threshold=1e-6
    )
    return write_view(view, folder / PAGE)
