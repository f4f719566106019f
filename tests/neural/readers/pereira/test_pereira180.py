import warnings

import numpy as np
import pytest

from brainalign_jax.neural.formats import arrays as arrays_of_files
from brainalign_jax.neural.readers import open_dataset


def write_pereira(folder, **changes):
    rng = np.random.default_rng(0)
    n = 8
    values = rng.standard_normal((2, n, n)) * np.geomspace(100, 10, n)
    values[:, :, -1] = 1e-27 * rng.standard_normal((2, n))
    arrays = {
        "fmri_pca": values,
        "words": np.array([f"word{i}" for i in range(n)]),
        "subjects": np.array(["M01", "M02"]),
        "glove42B_300": rng.standard_normal((n, 300)),
        "concreteness": rng.uniform(1, 5, n),
    }
    folder.mkdir(exist_ok=True)
    np.savez(folder / "pereira180.npz", **{**arrays, **changes})
    return arrays


def test_pereira_drops_the_zero_component_and_offers_vectors(tmp_path):
    arrays = write_pereira(tmp_path / "pereira180")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = open_dataset("pereira180", tmp_path)  # the parent
        responses = dataset.load("M02")
    assert dataset.subjects == ("M01", "M02") and dataset.stimulus.onsets is None
    np.testing.assert_array_equal(responses.values, arrays["fmri_pca"][1, :, :7].astype(np.float32))
    assert responses.meta["zero_components"] == [7] and responses.valid.all()
    assert dataset.vectors["glove42B_300"].shape == (8, 300)
    np.testing.assert_allclose(dataset.vectors["concreteness"][:, 0], arrays["concreteness"])
    known = dataset.load(dataset.subjects[0]).stimulus.attribute("concreteness")
    np.testing.assert_array_equal(known, arrays["concreteness"])
    assert open_dataset("pereira180", tmp_path / "pereira180", subjects="M02").subjects == ("M02",)


def test_pereira_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pereira180\.npz.*osf\.io"):
        open_dataset("pereira180", tmp_path)
    arrays = write_pereira(tmp_path)
    with pytest.raises(ValueError, match="unknown subject 'M99' of pereira180; known: M01, M02"):
        open_dataset("pereira180", tmp_path, subjects=["M99"])
    with pytest.raises(ValueError, match="each subject of pereira180 once"):
        open_dataset("pereira180", tmp_path, subjects=["M01", "M01"])
    with pytest.raises(ValueError, match="once"):
        open_dataset("pereira180", tmp_path, subjects=[])
    broken = arrays["fmri_pca"].copy()
    broken[0, 2, 4] = np.nan
    write_pereira(tmp_path, fmri_pca=broken)
    with pytest.raises(ValueError, match="subject M01.*1 of 7 voxels.*column 4.*bad_voxels=drop"):
        open_dataset("pereira180", tmp_path).load("M01")
    with pytest.warns(UserWarning, match="1 of 7 voxels"):
        responses = open_dataset("pereira180", tmp_path, bad_voxels="drop").load("M01")
    assert responses.values.shape == (8, 6) and responses.meta["dropped_voxels"] == 1
    write_pereira(tmp_path, words=arrays["words"][:5])
    with pytest.raises(ValueError, match=r"fmri_pca has shape \(2, 8, 8\) for 2 subjects and 5"):
        open_dataset("pereira180", tmp_path)
    write_pereira(tmp_path, glove42B_300=np.zeros((3, 300)))
    with pytest.raises(ValueError, match="glove42B_300"):
        open_dataset("pereira180", tmp_path)
    write_pereira(tmp_path, words=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match=r"pereira180\.npz is not the pereira180 file"):
        open_dataset("pereira180", tmp_path)
    write_pereira(tmp_path)
    path = tmp_path / "pereira180.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"pereira180\.npz.*truncated.*get it again"):
        open_dataset("pereira180", tmp_path)


def test_pereira_real(shared_data):
    dataset = open_dataset("pereira180", shared_data)
    assert len(dataset.subjects) == 15 and len(dataset.stimulus) == 180
    assert len(dataset.stimulus.types()[0]) == 180
    responses = dataset.load("M02")
    assert responses.values.shape == (180, 179) and responses.meta["zero_components"] == [179]
    # Concrete words differ from abstract ones in the vectors that ship with the words.
    glove, concreteness = dataset.vectors["glove42B_300"], dataset.vectors["concreteness"][:, 0]
    assert glove.shape == (180, 300) and 1 <= concreteness.min() < concreteness.max() <= 5
    close = glove[dataset.stimulus.words.index("apartment")]
    assert np.corrcoef(close, glove[dataset.stimulus.words.index("bag")])[0, 1] < 0.9


def test_labels_that_are_not_those_of_the_study(tmp_path):
    write_pereira(tmp_path, subjects=np.array(["M10", "M12"]))
    dataset = open_dataset("pereira180", tmp_path)
    assert [dataset.load(name).meta["participant"] for name in dataset.subjects] == ["M10", "M14"]
    assert "M11 to M15 are the study's M13 to M17" in dataset.load("M12").meta["citation"]


def test_an_offset_changes_no_geometry(tmp_path):
    """3e7 on a signal of size 1 to 100, which float32 would count in steps of two."""
    arrays = write_pereira(tmp_path)
    plain = open_dataset("pereira180", tmp_path).load("M01").values
    values = arrays["fmri_pca"].copy()
    values[:, :, :7] += 3e7
    write_pereira(tmp_path, fmri_pca=values)
    offset_values = open_dataset("pereira180", tmp_path).load("M01").values
    np.testing.assert_allclose(offset_values, plain - plain.mean(axis=0), atol=1e-4)


def test_arrays_larger_than_the_memory_are_refused_by_their_directory(tmp_path, monkeypatch):
    write_pereira(tmp_path, glove42B_300=np.zeros((3, 2**20)))
    path = tmp_path / "pereira180.npz"
    with np.load(path) as file:
        content = dict(file)
    np.savez_compressed(path, **content)
    assert path.stat().st_size < 2**17
    monkeypatch.setattr(arrays_of_files, "free_memory", lambda: 2**24)
    monkeypatch.setattr(np, "load", None)  # never reached
    with pytest.raises(ValueError, match=r"pereira180.npz.*its arrays needs 0.0 GiB of memory"):
        open_dataset("pereira180", tmp_path)
