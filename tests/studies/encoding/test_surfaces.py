"""Maps on surfaces: values at vertices, figure and page, and surfaces of another space."""

import importlib.util
import re
import sys
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.studies.encoding import surfaces
from brainalign_jax.studies.encoding.maps import BrainMap


def octahedron(centre, size):
    """Points [6, 3] and triangles [8, 3]."""
    points = centre + size * np.concatenate([np.eye(3), -np.eye(3)])
    triangles = [(x, y, z) for x in (0, 3) for y in (1, 4) for z in (2, 5)]
    return points.astype(np.float32), np.array(triangles, np.int32)


def write_surface(path, points, triangles, structure=None):
    arrays = [
        nib.gifti.GiftiDataArray(points, "NIFTI_INTENT_POINTSET", "NIFTI_TYPE_FLOAT32"),
        nib.gifti.GiftiDataArray(triangles, "NIFTI_INTENT_TRIANGLE", "NIFTI_TYPE_INT32"),
    ]
    if structure:
        arrays[0].meta["AnatomicalStructurePrimary"] = structure
    nib.GiftiImage(darrays=arrays).to_filename(path)
    return str(path)


@pytest.fixture
def meshes(tmp_path):
    """Two surfaces of six vertices, around (10, 0, 0) and (30, 0, 0) mm."""
    sides = [octahedron(np.array([x, 0.0, 0.0]), 6.0) for x in (10, 30)]
    return [
        write_surface(tmp_path / f"{name}.surf.gii", *side)
        for name, side in zip("LR", sides, strict=True)
    ]


def test_values_reach_the_vertices_of_all_spaces(meshes):
    surface = surfaces.read_surface(meshes)
    grid = VoxelSpace.volume(
        np.indices((6, 3, 3)).reshape(3, -1).T, (6, 3, 3), np.diag([6, 6, 6, 1.0])
    )
    along = grid.coordinates[:, 0]
    values = surfaces.on_surface(along, grid, surface)
    places = np.concatenate(surface.places)
    inside = ((places > -3) & (places < [33, 15, 15])).all(axis=1)
    assert 0 < inside.sum() < 12 and (np.isfinite(values) == inside).all()
    assert np.abs(values - places[:, 0])[inside].max() <= 3
    mesh = VoxelSpace.surface(np.array([5, 1]), np.array([2]), n_left=6, n_right=6)
    expected = np.full(12, np.nan)
    expected[[5, 1, 8]] = 1, 2, 3
    np.testing.assert_array_equal(
        surfaces.on_surface(np.array([1, 2, 3.0]), mesh, surface), expected
    )
    axis = nib.cifti2.BrainModelAxis.from_surface([2], 6, "CortexRight")
    axis += nib.cifti2.BrainModelAxis.from_surface([1, 5], 6, "CortexLeft")
    cifti = VoxelSpace.cifti(axis)
    np.testing.assert_array_equal(
        surfaces.on_surface(np.array([3, 2, 1.0]), cifti, surface), expected
    )


def test_the_map_is_drawn_on_both_hemispheres_and_the_page_needs_no_network(meshes, tmp_path):
    surface = surfaces.read_surface(meshes)
    space = VoxelSpace.surface(np.arange(6), np.arange(6), n_left=6, n_right=6)
    values = {"unique_r": np.linspace(-0.1, 0.3, 12)}
    brain = BrainMap(1, "group", values, space, None)
    figure = surfaces.draw(brain, "unique_r", "unique r", surface)
    assert [axis.get_title() for axis in figure.axes[:4]] == [
        "left, lateral", "left, medial", "right, lateral", "right, medial",
    ]  # fmt: skip
    said = surfaces.write_page(brain, "unique_r", surface, tmp_path)
    if importlib.util.find_spec("plotly") is None:
        assert said == "there is no surface.html: nilearn needs plotly for it, pip install plotly"
        return
    assert said == ""
    page = (tmp_path / surfaces.PAGE).read_text()
    assert 10_000 < len(page) < 10 * 2**20
    # plotly's own code has its address, for whoever presses its sign; nothing is loaded from there.
    assert not re.findall(
        r"""<[^<>]*(?:src|href)=["']https?:""", re.sub("<script.*?</script>", "", page, flags=re.S)
    )
    assert not re.findall(r"""<(?:script|link|img)[^<>]*https?:""", page)


@pytest.mark.parametrize("values", [np.linspace(-0.3, -0.1, 12), np.full(12, np.nan)])
def test_a_map_with_nothing_above_zero_ends_no_study(meshes, tmp_path, monkeypatch, values):
    """Of a largest value below the smallest colour nilearn makes no page, and raises."""
    monkeypatch.setattr("nilearn.plotting.view_surf", lambda *_, **__: None)
    surface = surfaces.read_surface(meshes)
    space = VoxelSpace.surface(np.arange(6), np.arange(6), n_left=6, n_right=6)
    brain = BrainMap(1, "group", {"unique_r": values}, space, None)
    surfaces.draw(brain, "unique_r", "unique r", surface)
    said = surfaces.write_page(brain, "unique_r", surface, tmp_path)
    assert said == "there is no surface.html: no value on the surface is above zero"
    assert not (tmp_path / surfaces.PAGE).exists()


def test_the_page_is_grey_where_the_figure_is(meshes, tmp_path, monkeypatch):
    given = []

    def view_surf(mesh, values, **options):
        given.append((values, options))
        return SimpleNamespace(get_standalone=lambda: "page")

    monkeypatch.setattr("nilearn.plotting.view_surf", view_surf)
    surface = surfaces.read_surface(meshes)
    space = VoxelSpace.surface(np.arange(6), np.arange(5), n_left=6, n_right=6)
    brain = BrainMap(1, "group", {"unique_r": np.linspace(-0.5, 0.3, 11)}, space, None)
    assert surfaces.write_page(brain, "unique_r", surface, tmp_path) == ""
    values, options = given[-1]
    np.testing.assert_allclose(values, [*np.maximum(np.linspace(-0.5, 0.3, 11), 0), 0], atol=1e-12)
    assert options["vmin"] == 0 and options["vmax"] == pytest.approx(0.3)


def test_nilearn_is_asked_for_before_anything_is_computed(meshes, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    monkeypatch.setitem(sys.modules, "nilearn.plotting", None)
    for given in (meshes, ["fsaverage5"]):
        with pytest.raises(ImportError, match="drawn by nilearn: pip install 'nilearn>=0.11'"):
            surfaces.read_surface(given)


def test_a_missing_plotly_is_told_before_anything_is_drawn(monkeypatch):
    def view_surf(*_, **__):
        raise ImportError("plotly")

    monkeypatch.setattr("nilearn.plotting.view_surf", view_surf)
    assert "pip install plotly" in surfaces.page_missing()


def test_a_hemisphere_that_says_it_is_the_other_is_refused(tmp_path):
    points, triangles = octahedron(np.zeros(3), 1.0)
    left, right = (
        write_surface(tmp_path / f"{name}.surf.gii", points, triangles, f"Cortex{name}")
        for name in ("Left", "Right")
    )
    assert surfaces.read_surface([left, right]).shown[0].shape == (6, 3)
    with pytest.raises(
        ValueError, match=r"Right.surf.gii is of the right hemisphere.*for the left one"
    ):
        surfaces.read_surface([right, left])
    with pytest.raises(ValueError, match=r"Left.surf.gii is of the left hemisphere"):
        surfaces.read_surface([left, left])


def test_fsaverage_is_installed_with_nilearn():
    surface = surfaces.read_surface(["fsaverage5"])
    assert [len(side) for side in surface.shown] == [10242, 10242]
    assert surface.places[0][:, 0].mean() < -20 and surface.places[1][:, 0].mean() > 20


def test_surfaces_that_do_not_fit_are_refused_in_a_line(meshes, tmp_path):
    surface = surfaces.read_surface(meshes)
    other = VoxelSpace.surface(np.arange(4), np.arange(4), n_left=7, n_right=7)
    with pytest.raises(
        ValueError, match="has 6 and 6 vertices, the recordings' meshes 7 and 7: give"
    ):
        surfaces.check(other, surface)
    affine = np.eye(4)
    affine[:3, 3] = 500
    far = VoxelSpace.volume(np.array([[0, 0, 0]]), (2, 2, 2), affine)
    with pytest.raises(
        ValueError, match="no vertex of the surface .* lies in the recordings' volumes"
    ):
        surfaces.check(far, surface)
    corner = VoxelSpace.volume(np.array([[0, 0, 0]]), (8, 8, 8), np.diag([6, 6, 6, 1.0]))
    with pytest.raises(ValueError, match="at no vertex of the surface .* do the recordings have"):
        surfaces.check(corner, surface)
    with pytest.raises(ValueError, match="keep no space"):
        surfaces.check(None, surface)
    with pytest.raises(ValueError, match="give fsaverage5, or two GIFTI surfaces, LEFT,RIGHT"):
        surfaces.read_surface(meshes[:1])
    with pytest.raises(FileNotFoundError, match="give the path of a GIFTI surface"):
        surfaces.read_surface([meshes[0], str(tmp_path / "none.surf.gii")])
    points, triangles = octahedron(np.zeros(3), 1.0)
    wrong = write_surface(tmp_path / "wrong.surf.gii", points, triangles + 3)
    with pytest.raises(ValueError, match="wrong.surf.gii has triangles of points beyond its 6"):
        surfaces.read_surface([meshes[0], wrong])
    empty = write_surface(tmp_path / "empty.surf.gii", points, triangles[:0])
    with pytest.raises(ValueError, match=r"triangles \(0, 3\) make no surface"):
        surfaces.read_surface([empty, meshes[1]])
    assert surfaces.read_surface("fsaverage5").name == "fsaverage5"
    bold = tmp_path / "bold.func.gii"
    nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(np.ones(8, "f4"))]).to_filename(bold)
    with pytest.raises(ValueError, match="bold.func.gii is no GIFTI surface"):
        surfaces.read_surface([meshes[0], str(bold)])
