import numpy as np
import pytest
import scipy.io

from simulate.pereira import PARTICIPANTS, simulate_pereira

SMALL = {"n_voxels": 120, "shape": (7, 8, 6)}


def test_the_whole_release_has_its_participants_files_and_sizes(tmp_path):
    simulation = simulate_pereira(tmp_path, **SMALL, compress=False)
    assert len(PARTICIPANTS) == 16 and len(simulation.paths) == 62
    assert sum(file == "examples_384sentences" for _, file in simulation.paths) == 8
    assert sum(file == "examples_243sentences" for _, file in simulation.paths) == 6
    assert {experiment: len(items) for experiment, items in simulation.items.items()} == {
        "180concepts": 180,
        "384sentences": 384,
        "243sentences": 243,
    }
    for items in simulation.items.values():
        assert len(set(items)) == len(items)
    assert simulation.passages["384sentences"].max() == 96
    counts = np.bincount(simulation.passages["243sentences"])[1:]
    assert len(counts) == 72 and set(counts) == {3, 4}
    for path in simulation.paths.values():
        assert path.is_file() and path.parent.parent == tmp_path
    assert not list(tmp_path.rglob("*.partial"))


def test_a_file_has_the_names_shapes_and_nesting_of_the_release(tmp_path):
    simulation = simulate_pereira(
        tmp_path, subjects=["P01"], experiments=["180concepts", "243sentences"], **SMALL
    )
    n_voxels = len(simulation.indices("P01"))
    words = scipy.io.loadmat(simulation.paths["P01", "examples_180concepts_pictures"])
    assert words["examples"].shape == (180, n_voxels) and words["examples"].dtype == np.float64
    for name in ("keyConcept", "labelsConcept", "labelsConcreteness"):
        assert words[name].shape == (180, 1)
    assert words["keyConcept"][3, 0][0] == simulation.items["180concepts"][3]
    meta = words["meta"]
    assert meta.shape == (1, 1)
    for name in ("dimensions", "indicesIn3D", "coordToCol", "numberOfNeighbours"):
        assert name in meta.dtype.names
    meta = {name: meta[name][0, 0] for name in meta.dtype.names}
    places = meta["colToCoord"].astype(int)
    np.testing.assert_array_equal(places - 1, simulation.indices("P01"))
    column = meta["coordToCol"][tuple(places.T - 1)]
    np.testing.assert_array_equal(column, np.arange(1, n_voxels + 1))
    assert (meta["coordToCol"] > 0).sum() == n_voxels
    flat = np.flatnonzero(meta["coordToCol"].ravel(order="F")) + 1
    np.testing.assert_array_equal(meta["indicesIn3D"][:, 0], flat)
    for voxel in (0, 50, n_voxels - 1):
        touching = np.abs(places - places[voxel]).max(axis=1) == 1
        count = int(meta["numberOfNeighbours"][voxel, 0])
        columns = meta["voxelsToNeighbours"][voxel]
        assert columns[:count].tolist() == (np.flatnonzero(touching) + 1).tolist()
        assert not columns[count:].any()
    labels, names = meta["roiMultimaskAAL"][:, 0], meta["roisAAL"]
    for label in range(1, len(names) + 1):
        np.testing.assert_array_equal(
            np.flatnonzero(labels == label) + 1, meta["roiColumnsAAL"][label - 1, 0].ravel()
        )
    assert (labels == 0).any() and labels.any()
    sentences = scipy.io.loadmat(simulation.paths["P01", "examples_243sentences"])
    assert sentences["labelsPassageForEachSentence"].shape == (1, 243)  # a row, as in the release
    assert sentences["keyPassages"].shape == (72, 1) and sentences["keyPassageCategory"].shape == (
        1,
        24,
    )
    assert sentences["keySentences"][5, 0][0] == simulation.items["243sentences"][5]


def test_newer_files_have_tables_by_atlas_and_responses_to_passages(tmp_path):
    simulation = simulate_pereira(
        tmp_path,
        subjects={"M08": (2,)},
        experiments=["384sentences"],
        files="data",
        roi_tables="newer",
        nested=True,
        **SMALL,
    )
    path = tmp_path / "M08" / "M08" / "data_384sentences.mat"
    assert simulation.paths == {("M08", "data_384sentences"): path}
    content = scipy.io.loadmat(path)
    assert "examples" not in content and content["examples_passages"].shape[0] == 96
    np.testing.assert_array_equal(
        content["examples_passagesentences"], simulation.values("M08", "data_384sentences")
    )
    meta = content["meta"][0, 0]
    atlases = [cell[0] for cell in meta["atlases"][0]]
    assert atlases[:2] == ["aal", "gordon"] and "languageLH" in atlases
    at = atlases.index("languageLH")
    regions = simulation.regions("M08")["languageLH"]
    assert [cell[0] for cell in meta["rois"][0, at][:, 0]] == list(regions)
    for cell, columns in zip(meta["roiColumns"][0, at][:, 0], regions.values(), strict=True):
        assert cell.ravel().tolist() == (columns + 1).tolist()
    assert meta["roiMultimask"][0, at].shape == (len(simulation.indices("M08")), 1)


def test_the_vectors_drive_the_language_regions_only(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((180, 4))
    simulation = simulate_pereira(
        tmp_path,
        subjects=["P01"],
        experiments=["180concepts"],
        vectors={"180concepts": vectors},
        snr=3,
        **SMALL,
    )
    values = simulation.values("P01", "examples_180concepts_sentences")
    again = simulation.values("P01", "examples_180concepts_wordclouds")
    centred = vectors - vectors.mean(axis=0)
    predicted = centred @ np.linalg.lstsq(centred, values, rcond=None)[0]
    explained = predicted.var(axis=0) / values.var(axis=0)
    responsive = np.isin(np.arange(values.shape[1]), simulation.responsive("P01"))
    assert explained[responsive].min() > 0.8 > 0.2 > explained[~responsive].max()
    agree = [np.corrcoef(a, b)[0, 1] for a, b in zip(values.T, again.T, strict=True)]
    assert np.min(np.array(agree)[responsive]) > 0.7 > np.max(np.array(agree)[~responsive])


def test_equal_seeds_give_equal_bytes(tmp_path):
    options = {"subjects": ["M02"], "experiments": ["180concepts"], **SMALL}
    first = simulate_pereira(tmp_path / "a", **options, seed=3)
    second = simulate_pereira(tmp_path / "b", **options, seed=3)
    other = simulate_pereira(tmp_path / "c", **options, seed=4)
    for key, path in first.paths.items():
        assert path.read_bytes() == second.paths[key].read_bytes() != other.paths[key].read_bytes()


def test_errors(tmp_path):
    for name, value in (("files", "old"), ("roi_tables", "x"), ("matlab", "4")):
        with pytest.raises(ValueError, match=f"unknown {name}='{value}'; known"):
            simulate_pereira(tmp_path, **{name: value})
    with pytest.raises(ValueError, match="unknown experiments='words'"):
        simulate_pereira(tmp_path, experiments=["words"])
    with pytest.raises(ValueError, match="from 8 to the 60"):
        simulate_pereira(tmp_path, n_voxels=61, shape=(3, 4, 5))
    with pytest.raises(ValueError, match=r"180concepts have shape \(3, 2\) for 180 items"):
        simulate_pereira(tmp_path, vectors={"180concepts": np.ones((3, 2))}, **SMALL)
    assert not list(tmp_path.iterdir())
