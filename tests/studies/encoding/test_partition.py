import hashlib
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from small_models import add_letter_tokenizer, save_checkpoint

import brainalign_jax as ba
from brainalign_jax.align.ridge import banded_spaces
from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.studies.encoding import EncodingTable, features, partition, run_encoding
from brainalign_jax.studies.encoding.encoding import _clocks
from brainalign_jax.studies.options import VoxelEncoding
from brainalign_jax.study.score import volumes

N, V = 72, 5
ALPHAS, RATIOS = (0.3, 3.0, 30.0), (0.1,)


def least_squares(design, target, rows):
    return design @ np.linalg.lstsq(design[rows], target[rows], rcond=None)[0]


def slow_parts(spaces, z, target, train, outer, gamma, alpha):
    """What nuisances, and each space beside them, predict of one target [N], by explicit joint ridge in
    float64.

    Features are scaled on the training rows of the outer fold to one deviation of what nuisances leave of
    them, and spaces to one mean square of a row.
    """
    scaled = []
    for x, weight in zip(spaces, gamma, strict=True):
        left = x - least_squares(z, x, outer)
        left = left / np.sqrt((left[outer] ** 2).mean(0))
        scaled.append(left * np.sqrt(weight / (left[outer] ** 2).sum(1).mean()))
    design = np.column_stack([z, *scaled])
    widths = [x.shape[1] for x in scaled]
    penalty = np.diag([0.0] * z.shape[1] + [alpha] * sum(widths))
    normal = design[train].T @ design[train] + penalty
    coef = np.split(
        np.linalg.solve(normal, design[train].T @ target[train])[z.shape[1] :],
        np.cumsum(widths)[:-1],
    )
    own = [(x - least_squares(z, x, train)) @ c for x, c in zip(scaled, coef, strict=True)]
    return np.stack([least_squares(z, target, train), *own])


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(4)
    spaces = [rng.standard_normal((N, width)) for width in (4, 3)]
    spaces[1][:, 0] = spaces[0][:, 0] + 0.1 * rng.standard_normal(N)
    z = rng.standard_normal((N, 1)) + 2
    y = rng.standard_normal((N, V))
    y[:, 0] += 1.5 * spaces[0][:, 1]
    y[:, 1] += 1.5 * spaces[1][:, 1]
    y[:, 2] += 1.5 * spaces[0][:, 0]  # in both
    y[:, 3] += z[:, 0] + spaces[0][:, 2] + spaces[1][:, 2]
    return spaces, z, y


def test_shares_are_those_of_a_slow_search(problem):
    spaces, nuisances, y = problem
    run = np.repeat([1, 2, 3], N // 3)
    folds = volumes.run_folds(run, n_folds=3, n_inner=2)
    told = []
    first, second = partition.score(
        [y[:, :4].astype("f4"), y[:, 4:].astype("f4")], spaces, nuisances, folds, RATIOS, ALPHAS, 8,
        told.append,
    )  # fmt: skip
    assert sum(told) == pytest.approx(1) and second.r.shape == (1,)
    z = np.column_stack([np.ones(N), nuisances])
    models = {"joint": [0, 1], "first": [0], "second": [1], "none": []}
    gammas = banded_spaces.simplex_grid(2, RATIOS).astype(float)
    for voxel in range(4):
        target = y[:, voxel]
        square = dict.fromkeys([*models, "total"], 0.0)
        products, parts_r, r = np.zeros(3), np.zeros(3), []
        for fold, outer in enumerate(folds.train):
            inner = list(zip(folds.inner_train[fold], folds.inner_rows[fold], strict=True))
            test = folds.test_rows[fold]
            true = target[test] - target[test].mean()
            square["total"] += (true**2).sum()
            for name, has in models.items():
                candidates = [(np.zeros(2), 1.0)]
                candidates += [
                    (gamma, alpha)
                    for gamma, alpha in itertools.product(gammas, ALPHAS)
                    if not np.delete(gamma, has).any() and has
                ]

                def error(pair, inner=inner, outer=outer, target=target):
                    return sum(
                        ((target - slow_parts(spaces, z, target, own, outer, *pair).sum(0))[held] ** 2).mean()
                        for own, held in inner
                    )  # fmt: skip

                best = min(candidates, key=error)
                parts = slow_parts(spaces, z, target, outer, outer, *best)[:, test]
                parts = parts - parts.mean(1, keepdims=True)
                joint = parts.sum(0)
                square[name] += ((true - joint) ** 2).sum()
                if name == "joint":
                    products += ((2 * true - joint) * parts).sum(1)
                    size = np.sqrt((true**2).sum() * (joint**2).sum())
                    parts_r += (true * parts).sum(1) / size / 3
                    r.append((true * joint).sum() / size)
        r2 = {name: 1 - square[name] / square["total"] for name in models}
        close = dict(atol=2e-4)
        np.testing.assert_allclose(first.r2[voxel], r2["joint"], **close)
        np.testing.assert_allclose(first.r[voxel], np.mean(r), **close)
        np.testing.assert_allclose(first.r2_nuisances[voxel], r2["none"], **close)
        np.testing.assert_allclose(first.alone[:, voxel], [r2["first"], r2["second"]], **close)
        np.testing.assert_allclose(
            first.unique[:, voxel], r2["joint"] - np.array([r2["second"], r2["first"]]), **close
        )
        shared = r2["first"] + r2["second"] - r2["none"] - r2["joint"]
        np.testing.assert_allclose(first.shared[voxel], shared, **close)
        np.testing.assert_allclose(first.product_r2[:, voxel], products / square["total"], **close)
        np.testing.assert_allclose(first.product_r[:, voxel], parts_r, **close)
    np.testing.assert_allclose(first.product_r2.sum(0), first.r2, atol=1e-5)
    np.testing.assert_allclose(first.product_r.sum(0), first.r, atol=1e-5)


def test_omega_is_the_share_that_the_others_reach_beyond_nuisances():
    r2, nuisances = np.array([0.35, 0.30, 0.2]), np.array([0.05, 0.0, 0.2])
    without, alone = np.array([0.15, 0.35, 0.2]), np.array([0.25, 0.2, 0.15])
    np.testing.assert_allclose(partition.omega(r2, nuisances, without, alone), [0.0, 1.0, np.nan])


WORDS = tuple(f"word{number % 50}" for number in range(260))


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """Two people: four voxels of the model, four of the other one, four of what both know, four of noise."""
    rng = np.random.default_rng(1)
    onsets = 10 + 0.8 * np.arange(260) + 3 * np.sin(np.arange(260) / 7)
    words = ba.Stimulus(WORDS, onsets=onsets)
    own, other, both = (rng.standard_normal((260, 4)) for _ in range(3))
    token = {"level": "token"}
    model = ba.Embeddings("own", WORDS, np.hstack([own, both])[None], None, token)
    beside = ba.Embeddings("other", WORDS, np.hstack([other, both])[None], None, token)
    times, run = 2.0 * np.arange(110), np.zeros(110, int)
    signal = np.zeros((110, 16))
    for number, vectors in enumerate((own, other, both)):
        at = volumes.at_volumes(words, times, run, vectors, VoxelEncoding())
        at = at @ rng.standard_normal((4, 4))
        signal[:, 4 * number : 4 * number + 4] = at / at.std(axis=0)
    space = VoxelSpace.volume(np.indices((4, 4, 1)).reshape(3, -1).T, (4, 4, 1), np.eye(4))
    people = {}
    for name in ("S1", "S2"):
        values = (signal + 0.6 * rng.standard_normal((110, 16))).astype("f4")
        people[name] = TimeCourses(name, values, times, run, words, {}, space)
    dataset = ba.Dataset("mine", tuple(people), words, None, time_courses=people.__getitem__)
    plan = VoxelEncoding(
        n_folds=3, n_inner=2, purge=6.0, n_shifts=2, alphas=(1.0, 10.0, 100.0), ratios=(0.1,),
        nuisances=("rate", "length", "surprisal"), n_bootstrap=50,
    )  # fmt: skip
    output = tmp_path_factory.mktemp("divided") / "out"
    table = run_encoding(
        dataset, [model], output, plan=plan, spaces=[beside, "length"], progress=False
    )
    return output, table, dataset, model, plan


def test_what_was_planted_is_unique_or_shared(divided):
    output, table, *_ = divided
    for subject in ("S1", "S2", "group"):
        values = table.maps[1, subject].values
        unique = np.stack([values[f"space-{number}_unique_r2"] for number in (1, 2, 3)])
        means = unique.reshape(3, 4, 4).mean(axis=2)
        assert means[0].argmax() == 0 and means[0, 0] > 0.4 > 0.15 > means[0, 1:].max()
        assert means[1].argmax() == 1 and means[1, 1] > 0.4 > 0.15 > np.delete(means[1], 1).max()
        assert np.abs(means[2]).max() < 0.15  # words' length explains nothing
        shared = values["spaces_shared_r2"].reshape(4, 4).mean(axis=1)
        assert shared.argmax() == 2 and shared[2] > 0.3
        product = np.stack([values[f"space-{number}_product_r2"] for number in (1, 2, 3)])
        total = product.sum(axis=0) + values["spaces_nuisances_product_r2"]
        np.testing.assert_allclose(total, values["spaces_r2"], atol=1e-4)


def test_spaces_have_a_table_a_sentence_and_a_section(divided):
    output, table, *_ = divided
    again = EncodingTable.load(output)
    assert again.spaces.equals(table.spaces) and again.verdict() == table.verdict()
    assert list(again.spaces["space"].unique()) == ["own", "other", "length", "nuisances"]
    rows = again.spaces.set_index(["subject", "space"])
    assert len(rows) == 3 * 4 and rows.index.is_unique
    want = table.maps[1, "S1"].values["space-2_unique_r2"].mean()
    assert rows.loc["S1", "other"]["unique_r2"] == pytest.approx(want)
    group = rows.loc["group", "own"]
    assert group["low"] <= group["unique_r2"] <= group["high"] and group["p"] == 0.25
    assert 0.2 < group["omega"] < 0.8
    facts = again.manifest["models"][0]
    assert facts["nuisances_of_spaces"] == ["rate"] and facts["nuisances"] == ["rate", "length"]
    said = again.verdict()
    assert re.search(
        r"\(word rate alone .\.\d+\); what each adds to the others: own \+\.\d+ \(p = 0.250\)", said
    )
    nothing = replace(again, spaces=again.spaces.assign(r2=-0.2))
    assert "explain nothing of the mean of all voxels beyond word rate" in nothing.verdict()
    assert "adds to the others" not in nothing.verdict()
    page = (output / "report.html").read_text()
    assert "how their variance is divided" in page and "Beside all: word rate." in page
    assert (output / "maps" / "model-1_group_space-2_unique_r2.nii.gz").is_file()
    assert "nan" not in page.split("how their variance")[1].split("<h2>")[0]


@pytest.mark.filterwarnings("ignore:1 of 1 texts")
def test_spaces_are_named_or_refused(divided, tmp_path):
    _, _, dataset, model, plan = divided
    words, courses = dataset.stimulus, dataset.time_courses("S1")

    def made(*spaces):
        return features.feature_spaces(words, ["own"], spaces, plan, cache=None)

    folder = save_checkpoint("gpt2", tmp_path / "gpt2", n_layers=1)
    add_letter_tokenizer(folder)
    table = tmp_path / "sound.tsv"
    table.write_text("power\tpitch\n" + "1.5\t2\n" * 110)
    last, surprising, sound = made(f"{folder}#1", f"surprisal:{folder}", f"volumes:{table}")
    vectors = features.word_vectors(words, model, plan, cache=None)
    shapes = [
        features.space_features(courses, s, vectors, plan).shape for s in (last, surprising, sound)
    ]
    assert shapes == [(110, 16), (110, 1), (110, 2)] and len(last.layers) == 1
    assert surprising.in_place_of == ("surprisal",) and sound.in_place_of == ()
    assert features.space_features(courses, made("rate+length")[0], vectors, plan).shape == (110, 2)
    table.write_text("power\n" + "1.5\n" * 100)
    with pytest.raises(ValueError, match=r"sound.tsv has 100 rows for 110 volumes"):
        features.space_features(courses, sound, vectors, plan)
    with pytest.raises(ValueError, match="own gives no surprisal, which the space 'surprisal'"):
        features.space_features(courses, made("surprisal")[0], vectors, plan)
    with pytest.raises(ValueError, match="4 spaces beside the model: give three at most"):
        made("rate", "length", "frequency", "position")
    with pytest.raises(ValueError, match="'own' is given twice, or is a model"):
        made("own")
    with pytest.raises(
        ValueError, match=r"'pitch' is neither of features of the words \(rate, length"
    ):
        made("pitch")
    with pytest.raises(ValueError, match="no number of a layer behind #"):
        made(f"{folder}#last")
    with pytest.raises(ValueError, match="has no layer 7"):
        made(f"{folder}#7")
    with pytest.raises(ValueError, match="ratios"):
        VoxelEncoding(ratios=(1.0,))


SHORT = VoxelEncoding(
    n_folds=2, n_inner=2, purge=4.0, n_shifts=1, alphas=(1.0,), ratios=(0.1,), nuisances=("rate",),
    n_bootstrap=10,
)  # fmt: skip


def person(subject, rating):
    """Time courses of noise beside words that have a rating."""
    words = ba.Stimulus(WORDS[:100], onsets=5 + 1.1 * np.arange(100), attributes={"rating": rating})
    values = np.random.default_rng(2).standard_normal((60, 2)).astype("f4")
    return TimeCourses(subject, values, 2.0 * np.arange(60), np.zeros(60, int), words)


def test_people_whose_words_differ_in_a_space_are_scored_apart():
    ratings = np.random.default_rng(2).standard_normal((2, 100))
    people = [person("S1", ratings[0]), person("S2", ratings[1])]
    assert len(_clocks(people, SHORT, ["rate"])[0]) == 1
    assert len(_clocks(people, SHORT, ["rate+rating"])[0]) == 2


def alone(own):
    return ba.Dataset("mine", ("S1",), own.stimulus, None, time_courses={"S1": own}.__getitem__)


def test_a_space_of_which_nothing_is_left_is_refused(tmp_path):
    model = ba.Embeddings("own", WORDS[:100], np.eye(100)[None, :, :2], None, {})
    dataset = alone(person("S1", np.ones(100)))
    (tmp_path / "sound.tsv").write_text("power\n" + "1\n" * 60)
    for space in ("rating", f"volumes:{tmp_path / 'sound.tsv'}"):
        with pytest.raises(ValueError, match="does not vary in the recording of S1.*leave it out"):
            run_encoding(dataset, [model], plan=SHORT, spaces=[space], progress=False)
    with pytest.raises(ValueError, match="own gives no surprisal, which the space 'surprisal'"):
        run_encoding(dataset, [model], plan=SHORT, spaces=["surprisal"], progress=False)


def test_the_surprisal_of_a_causal_model_is_a_space_beside_it(tmp_path):
    folder = str(save_checkpoint("gpt2", tmp_path / "gpt2", n_layers=1))
    add_letter_tokenizer(tmp_path / "gpt2")
    dataset = alone(person("S1", np.ones(100)))
    sound = tmp_path / "sound.tsv"
    sound.write_text("power\n" + "1\n2\n" * 30)
    spaces = ["surprisal", f"volumes:{sound}"]
    table = run_encoding(dataset, [folder], plan=SHORT, spaces=spaces, progress=False)
    assert list(table.spaces["space"]) == [folder, *spaces, "nuisances"]
    assert table.manifest["models"][0]["nuisances"] == ["rate"]
    assert table.manifest["tables"] == {spaces[1]: hashlib.sha256(sound.read_bytes()).hexdigest()}
