"""Inner products in place of recordings: what they keep, what they refuse, and that no score differs."""

from dataclasses import replace

import numpy as np
import pytest

import brainalign_jax as ba
from brainalign_jax.cli import main
from brainalign_jax.neural.inner_products import MARK, of_zero_mean, products_of, responses_of
from brainalign_jax.study.evidence.ceilings import form_kernels

WORDS = [f"word{index}" for index in range(40)]


def recording(seed=0, n_features=300, offset=0.0, covered=None):
    rng = np.random.default_rng(seed)
    valid = np.ones(len(WORDS), bool) if covered is None else covered
    values = rng.normal(size=(len(WORDS), n_features)) * rng.gamma(1, size=n_features) + offset
    meta = {"feature_names": [f"v{index}" for index in range(n_features)], "citation": "X"}
    return ba.WordResponses(
        f"S{seed}",
        (values * valid[:, None]).astype(np.float32),
        ba.Stimulus.from_words(WORDS),
        valid,
        meta,
    )


def products(values, valid):
    rows = np.asarray(values, float)[valid]
    rows_centred = rows - rows.mean(axis=1, keepdims=True)
    deviations = rows - rows.mean(axis=0)
    deviations_centred = rows_centred - rows_centred.mean(axis=0)
    return [x @ x.T for x in (rows, rows_centred, deviations, deviations_centred)]


@pytest.mark.parametrize("n_features", [1, 6, 39, 40, 300])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_products_of_rows_and_of_rows_less_their_means_are_kept(n_features, offset):
    covered = np.arange(len(WORDS)) % 7 != 3
    own = recording(1, n_features, offset, covered)
    again = responses_of(products_of(own))
    assert again.values.shape[1] <= min(n_features, covered.sum()) + 2
    for ours, theirs in zip(
        products(again.values, covered), products(own.values, covered), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * max(np.abs(theirs).max(), 1e-3))
    assert not again.values[~covered].any() and (again.valid == covered).all()


def test_a_large_offset_costs_the_differences_no_digits():
    own = recording(2, offset=300.0)
    ours = products(responses_of(products_of(own)).values, own.valid)[2]
    theirs = products(own.values, own.valid)[2]
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())


def test_any_rotation_that_keeps_the_ones_gives_the_same_kernel():
    own = recording(3, 50)
    ones = np.full((50, 1), 50**-0.5)
    rest = np.linalg.qr(np.hstack([ones, np.random.default_rng(0).normal(size=(50, 49))]))[0][:, 1:]
    turn = (
        ones @ ones.T
        + rest @ np.linalg.qr(np.random.default_rng(1).normal(size=(49, 49)))[0] @ rest.T
    )
    turned = replace(own, values=(own.values @ turn).astype(np.float32))
    np.testing.assert_allclose(products_of(own).values, products_of(turned).values, atol=2e-4)
    assert "feature_names" not in products_of(own).meta


def test_a_mean_far_from_zero_is_kept_where_it_counts():
    own = recording(4, offset=300.0)
    again = responses_of(products_of(own))
    ours, theirs = products(again.values, own.valid), products(own.values, own.valid)
    for place, digits in ((0, 1e-6), (1, 1e-5)):
        largest = np.abs(theirs[place]).max()
        np.testing.assert_allclose(ours[place], theirs[place], atol=digits * largest)


def test_responses_of_any_unit_are_kept():
    own = recording(6)
    for unit in (1e-25, 1e20):
        scaled = replace(own, values=own.values * np.float32(unit))
        again = responses_of(products_of(scaled)).values / unit
        theirs = products(own.values, own.valid)[0]
        np.testing.assert_allclose(again @ again.T, theirs, atol=1e-5 * theirs.max())


@pytest.mark.parametrize(
    "damage",
    [
        lambda kernel: {"values": kernel.values[:, :5]},
        lambda kernel: {"values": -kernel.values},
        lambda kernel: {"meta": {MARK: {**kernel.meta[MARK], "sums": [1e6] * len(WORDS)}}},
        lambda kernel: {"meta": {MARK: {**kernel.meta[MARK], "n_features": 0}}},
    ],
)
def test_products_that_no_responses_have_are_damaged(damage):
    kernel = products_of(recording(7))
    with pytest.raises(ValueError, match="subject S7: the inner products are damaged: export"):
        responses_of(replace(kernel, **damage(kernel)))


def test_what_names_files_columns_or_other_people_stays():
    secret = {
        "images": {"bold": ["/home/ada/sub-ada.nii"]}, "mask": ["ada.nii"], "atlas": "/home/ada/atlas.nii",
        "features": "Heschl to V1 (40)", "left_out": {"P07": "moved"}, "participant": "M13",
    }  # fmt: skip
    own = recording(5)
    kept = products_of(replace(own, meta={**own.meta, **secret, "radius": "6mm"})).meta
    assert kept.keys() == {"citation", "radius", MARK}


def test_people_of_other_options_are_refused(people):
    dataset, folder = people
    for subject, kernel in (("S0", "gaussian"), ("S1", "hrf"), ("S2", "gaussian")):
        meta = {"kernel": {"kind": kernel, "alpha": len(subject)}, "tr": 2.0}
        products_of(replace(dataset.load(subject), meta=meta)).save(folder / f"{subject}.npz")
    with pytest.raises(ValueError, match="S1.npz was made with kind=hrf, .*S0.npz with gaussian"):
        ba.open_dataset("kernels", folder)
    assert ba.open_dataset("kernels", folder, subjects=["S0", "S2"]).subjects == ("S0", "S2")


@pytest.fixture
def people(tmp_path):
    """A data set of three people who share a geometry, and the folder of its kernels."""
    vectors = np.random.default_rng(9).normal(size=(len(WORDS), 8)).astype(np.float32)
    stimulus = ba.Stimulus.from_words(WORDS)
    recorded = {}
    for seed in range(3):
        own = recording(seed, 200)
        shared = vectors @ np.random.default_rng(50 + seed).normal(size=(8, 200))
        recorded[own.subject] = replace(own, values=(own.values + shared).astype(np.float32))
    dataset = ba.Dataset(
        "mine", tuple(recorded), stimulus, recorded.__getitem__, vectors={"eight": vectors}
    )
    ba.export_kernels(dataset, tmp_path / "kernels")
    return dataset, tmp_path / "kernels"


def test_a_study_of_kernels_is_the_study_of_the_recordings(people):
    dataset, folder = people
    kernels = ba.open_dataset("kernels", folder)
    np.testing.assert_array_equal(kernels.vectors["eight"], dataset.vectors["eight"])
    model = ba.Embeddings("eight", tuple(WORDS), dataset.vectors["eight"][None])
    protocol = ba.protocol("audited", timed=False, n_folds=3, n_inner_folds=2, csls_k=5)
    scoring = ba.Scoring(methods=("ridge", "procrustes", "rsa"), protocol=protocol, ks=(1, 5))
    plan = ba.EvidencePlan(n_nulls=2, n_permutations=19, n_bootstraps=100, controls=())
    tables = [
        ba.run_study(source, model, scoring, report_k=5, evidence=plan, progress=False)
        for source in (dataset, kernels)
    ]
    keys = ["subject", "model", "layer", "method", "fold", "metric", "k"]
    for rows, columns in (
        ([table.rows for table in tables], keys),
        ([table.extras["nulls"] for table in tables], [*keys[:4], "draw", "metric", "k"]),
        ([table.extras["ceilings"] for table in tables], ["subject", "method", "metric", "k"]),
    ):
        both = rows[0].merge(rows[1], on=columns)
        assert len(both) == len(rows[0]) == len(rows[1])
        np.testing.assert_allclose(both.value_x, both.value_y, atol=1e-5)
    summary = tables[1].summary().query("method == 'ridge'")
    assert summary.csls_avg.max() > 3 * summary.chance.max()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scaling": "zscore"}, "scaling=zscore asks for single voxels"),
        ({"n_voxels": 20}, "n_voxels=20 asks"),
        ({"pca": "model_width"}, "pca=model_width asks"),
        ({"rdm_metric": "spearman"}, "rdm_metric=spearman asks"),
    ],
)
def test_what_asks_for_voxels_is_refused(people, fields, said):
    kernels = ba.open_dataset("kernels", people[1])
    model = ba.Embeddings("eight", tuple(WORDS), kernels.vectors["eight"][None])
    protocol = ba.protocol("audited", timed=False, **fields)
    methods = ("rsa",) if "rdm_metric" in fields else ("ridge",)
    scoring = ba.Scoring(methods=methods, protocol=protocol, ks=(1,))
    with pytest.raises(ValueError, match=said):
        ba.run_study(kernels, model, scoring, report_k=1, evidence=None, progress=False)


def test_a_generalisation_refuses_what_asks_for_voxels(people):
    words = ba.Stimulus.from_words(WORDS).with_attributes(half=np.arange(len(WORDS)) % 2)
    kernels = ba.open_dataset("kernels", people[1])
    kernels = replace(
        kernels, stimulus=words, load=lambda subject, read=kernels.load: read(subject)
    )
    model = ba.Embeddings("eight", tuple(WORDS), kernels.vectors["eight"][None])
    scoring = ba.Scoring(
        methods=("rsa",),
        protocol=ba.protocol("audited", timed=False, rdm_metric="spearman"),
        ks=(1,),
    )
    with pytest.raises(ValueError, match="rdm_metric=spearman asks for single voxels"):
        ba.studies.generalisation.run_generalisation(
            kernels, [model], "half=0;half=1", scoring=scoring, progress=False
        )


def test_rows_of_zero_mean_keep_their_inner_products():
    rows = np.random.default_rng(0).standard_normal((2, 7, 4))
    turned = of_zero_mean(rows)
    assert turned.shape == (2, 7, 5)
    np.testing.assert_allclose(turned.mean(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(turned @ turned.swapaxes(1, 2), rows @ rows.swapaxes(1, 2))


def test_one_feature_has_no_ceiling_by_correlations():
    own = [recording(seed, 1) for seed in range(3)]
    kernels = [responses_of(products_of(person)) for person in own]
    assert form_kernels(own, ["centred"]) == form_kernels(kernels, ["centred"]) == {"centred": []}
    of_forms = form_kernels(kernels, ["centred", "products", "values"])
    assert {form: len(people) for form, people in of_forms.items()} == {
        "centred": 0,
        "products": 3,
        "values": 0,
    }


def test_what_is_no_kernel_is_refused_by_its_file(people, tmp_path):
    dataset, folder = people
    with pytest.raises(ValueError, match="S0.npz holds inner products.*--dataset=kernels"):
        ba.open_dataset("table", folder)
    with pytest.raises(ValueError, match="inner products already"):
        ba.export_kernels(ba.open_dataset("kernels", folder), tmp_path / "again")
    dataset.load("S1").save(folder / "S1.npz")
    with pytest.raises(ValueError, match="S1.npz holds no inner products"):
        ba.open_dataset("kernels", folder)
    (folder / "S1.npz").unlink()
    damaged = products_of(dataset.load("S0"))
    values = damaged.values.copy()
    values[0, 1] += 1
    replace(damaged, values=values).save(folder / "S0.npz")
    with pytest.raises(ValueError, match="S0.npz: .*damaged"):
        ba.open_dataset("kernels", folder).load("S0")
    replace(damaged, meta={MARK: {"n_features": 3}}).save(folder / "S0.npz")
    with pytest.raises(ValueError, match="S0.npz: .*no inner products"):
        ba.open_dataset("kernels", folder).load("S0")
    with pytest.raises(FileNotFoundError, match="no kernel"):
        ba.open_dataset("kernels", tmp_path)
    (folder / "vectors" / "eight.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="eight.npy cannot be read"):
        ba.open_dataset("kernels", folder)


def test_people_of_other_words_are_refused(people):
    dataset, folder = people
    other = dataset.load("S1")
    words = ba.Stimulus.from_words([*WORDS[1:], "another"])
    products_of(replace(other, stimulus=words)).save(folder / "S1.npz")
    with pytest.raises(ValueError, match="S1.npz has other words"):
        ba.open_dataset("kernels", folder)


def test_what_would_be_mixed_or_never_read_is_not_written(people, tmp_path):
    dataset, folder = people
    with pytest.raises(ValueError, match="eight.npy is of another data set: export to an empty"):
        ba.export_kernels(replace(dataset, vectors={}), folder)
    (folder / "S9.npz").write_bytes((folder / "S1.npz").read_bytes())
    with pytest.raises(ValueError, match="S9.npz is of another person: export to an empty folder"):
        ba.export_kernels(dataset, folder)
    with pytest.raises(ValueError, match="'.S0' of mine is no name of a file"):
        ba.export_kernels(replace(dataset, subjects=(".S0",)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_command_exports_and_says_what_it_wrote(people, tmp_path, capsys):
    dataset, _ = people
    (tmp_path / "tables").mkdir()
    for subject in dataset.subjects:
        dataset.load(subject).save(tmp_path / "tables" / f"{subject}.npz")
    out = tmp_path / "exported"
    given = ["--dataset=table", f"--data_dir={tmp_path / 'tables'}", f"--output_dir={out}"]
    assert main(["kernels", "export", *given]) == 0
    assert "3 people, 40 words" in capsys.readouterr().out
    assert ba.open_dataset("kernels", out).subjects == dataset.subjects
    assert main(["kernels", *given]) == 2
    assert "--action is missing" in capsys.readouterr().err
