"""RDMs of 92 images: responses that have them, files that are refused, the release from a server."""

import dataclasses
import hashlib

import numpy as np
import pytest
from release_server import ReleaseServer
from simulate.kriegeskorte2008 import simulate_kriegeskorte2008

import brainalign_jax as ba
from brainalign_jax.align.rsa import rsa
from brainalign_jax.language.text.contexts import texts_of
from brainalign_jax.neural.downloads.fetching import fetch
from brainalign_jax.neural.downloads.releases import KRIEGESKORTE_2008
from brainalign_jax.studies.claims import read_claims, run_claims

PAIRS = np.triu_indices(92, 1)


def test_responses_have_the_rdms_of_the_release(tmp_path):
    rdms = simulate_kriegeskorte2008(tmp_path / "kriegeskorte2008").mean(axis=1)
    dataset = ba.open_dataset("kriegeskorte2008", tmp_path, subjects=["SN", "BE"])
    assert dataset.subjects == ("SN", "BE") and len(dataset.stimulus) == 92
    for subject, rdm in (("SN", rdms[2]), ("BE", rdms[0])):
        values = dataset.load(subject).values
        assert values.shape == (92, 93) and values.dtype == np.float32
        np.testing.assert_allclose(1 - np.corrcoef(values)[PAIRS], rdm[PAIRS], atol=2e-6)
        ours = np.sort(np.asarray(rsa.rdm(values, metric="correlation")))
        np.testing.assert_allclose(ours, np.sort(rdm[PAIRS]), atol=2e-6)


@pytest.mark.parametrize("context", ["word", "sentence", "growing"])
def test_names_of_pictures_are_not_read_by_language_models(tmp_path, context):
    """Their numbers tell the order, in which pictures of a kind stand side by side."""
    simulate_kriegeskorte2008(tmp_path)
    dataset = ba.open_dataset("kriegeskorte2008", tmp_path)
    assert dataset.load("SN").stimulus.language == dataset.stimulus.language == "zxx"
    assert dataset.stimulus.known_language() is None
    wanted = np.ones(92, bool)
    with pytest.raises(ValueError, match="image01, image02, .* are no words: .* static:FILE"):
        texts_of(dataset.stimulus, wanted, context=context)
    with pytest.raises(ValueError, match="items of kriegeskorte2008 are no words"):
        ba.open_dataset("kriegeskorte2008", tmp_path, language="en")


def with_nan(rdms):
    rdms[1, 1, 3, 4] = rdms[1, 1, 4, 3] = np.nan


def lopsided(rdms):
    rdms[3, 0, 3, 4] += 0.1


def of_no_patterns(rdms):
    rdms[2, :, 5, 6] = rdms[2, :, 6, 5] = 3.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"change": with_nan}, r"92_brainRDMs\.mat: RDMs\(1,2,2\) holds float32 of shape"),
        ({"change": lopsided}, r"RDMs\(1,4,1\) is not symmetric"),
        ({"change": of_no_patterns}, "the RDM of SN holds no correlation distances"),
        ({"rename": ("KO", "BE", "SN", "TI")}, r"RDMs\(1,1,1\) is named 'hIT | KO"),
    ],
)
def test_what_is_not_the_release_is_refused(tmp_path, change, said):
    simulate_kriegeskorte2008(tmp_path, **change)
    with pytest.raises(ValueError, match=said):
        ba.open_dataset("kriegeskorte2008", tmp_path).load("SN")


def test_damage_and_absence_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="brainalign fetch kriegeskorte2008"):
        ba.open_dataset("kriegeskorte2008", tmp_path)
    simulate_kriegeskorte2008(tmp_path)
    path = tmp_path / "92_brainRDMs.mat"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5000] + b"\x55" * 50 + whole[5050:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"92_brainRDMs\.mat"):
            ba.open_dataset("kriegeskorte2008", tmp_path)


def test_it_is_fetched_and_its_checksum_is_asked_for(tmp_path):
    simulate_kriegeskorte2008(tmp_path / "made")
    body = (tmp_path / "made" / "92_brainRDMs.mat").read_bytes()
    (file,) = KRIEGESKORTE_2008.files
    with ReleaseServer() as server:
        url = server.add("/92_brainRDMs.mat", body)
        checked = dataclasses.replace(file, urls=(url,), sha256=hashlib.sha256(body).hexdigest())
        release = dataclasses.replace(KRIEGESKORTE_2008, files=(checked,))
        folder = fetch(release, tmp_path / "data", progress=False)
        assert ba.open_dataset("kriegeskorte2008", folder).load("TI").values.shape == (92, 93)
        other = dataclasses.replace(release, files=(dataclasses.replace(file, urls=(url,)),))
        with pytest.raises((OSError, ValueError), match="92_brainRDMs"):
            fetch(other, tmp_path / "other", progress=False, retries=0)


def test_the_claims_of_its_ceilings_hold_on_the_release(shared_data):
    folder = shared_data / "kriegeskorte2008"
    if not folder.is_dir():
        pytest.skip("there is no kriegeskorte2008: brainalign fetch kriegeskorte2008")
    claims = [claim for claim in read_claims() if claim.dataset == "kriegeskorte2008"]
    table = run_claims(claims, data_dir=shared_data, progress=False)
    assert list(table.rows["outcome"]) == ["reproduced"] * 2
    inference = pytest.importorskip("rsatoolbox.inference")
    from rsatoolbox.rdm import RDMs

    dataset = ba.open_dataset("kriegeskorte2008", folder)
    rdms = [1 - np.corrcoef(dataset.load(name).values)[PAIRS] for name in dataset.subjects]
    expected = inference.boot_noise_ceiling(RDMs(np.array(rdms)), method="spearman")
    np.testing.assert_allclose(sorted(table.rows["value"]), expected, atol=2e-5)
