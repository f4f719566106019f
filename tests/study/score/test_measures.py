"""Measures of similarity: their values, evidence and verdict; users' own by `ba.register_measure`."""

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from recordings import make_embeddings, make_responses
from scipy.optimize import nnls
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

import brainalign_jax as ba
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.options import Performance
from brainalign_jax.studies.performance.scores import PICKED_JUDGED, read_scores
from brainalign_jax.study import registry
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence import similarity
from brainalign_jax.study.evidence.chance import permutation_p
from brainalign_jax.study.evidence.rsa import said_of_untested
from brainalign_jax.study.evidence.similarity import similarity_evidence
from brainalign_jax.study.report.evidence import evidence_values
from brainalign_jax.study.report.summary import measure_cells
from brainalign_jax.study.report.verdict import verdicts
from brainalign_jax.study.score.measures import measure_of
from brainalign_jax.study.score.measures import rsa as rsa_measure
from brainalign_jax.study.score.measures.rsa import RdmMeasure
from brainalign_jax.study.score.measures.weighted import word_folds
from brainalign_jax.study.score.sweep import score

PLAN = ba.EvidencePlan(n_nulls=9, n_permutations=99, n_bootstraps=200)


@pytest.fixture(autouse=True)
def known():
    """What is registered here is forgotten again."""
    before = dict(registry.MEASURES)
    yield
    registry.MEASURES.clear()
    registry.MEASURES.update(before)


def own(responses, vectors):
    """The RV coefficient, as a user would write it."""
    brain, model = responses @ responses.T, vectors @ vectors.T
    return (brain * model).sum() / jnp.linalg.norm(brain) / jnp.linalg.norm(model)


def numpy_values(responses, vectors):
    """Measures of one subject and layer, from features."""
    x, y = (np.asarray(side, float) - np.mean(side, axis=0) for side in (responses, vectors))
    k, m = x @ x.T, y @ y.T
    n = len(k)

    def hsic(a, b):
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        sums = a.sum() * b.sum() / ((n - 1) * (n - 2))
        return (a * b).sum() + sums - 2 / (n - 2) * (a.sum(axis=0) @ b.sum(axis=0))

    def near(rows):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        similar = unit @ unit.T - 9 * np.eye(n)
        return [set(np.argsort(-row)[:10]) for row in similar]

    def gaussian(products):
        squares = np.diag(products)[:, None] + np.diag(products) - 2 * products
        return np.exp(-2 * squares / np.median(squares[np.triu_indices(n, 1)]))

    shared = np.array([len(a & b) for a, b in zip(near(x), near(y), strict=True)])
    (u, s, _), (v, t, _) = (np.linalg.svd(side, full_matrices=False) for side in (x, y))
    axes = min(10, x.shape[1]), min(10, y.shape[1])
    left, common, _ = np.linalg.svd(u[:, : axes[0]].T @ v[:, : axes[1]], full_matrices=False)
    weights = s[: axes[0]] @ np.abs(left)
    a, b = gaussian(k), gaussian(m)

    def nuclear(of_x, of_y):
        of_x, of_y = u * of_x, v * of_y
        return np.linalg.norm(of_x.T @ of_y, "nuc"), np.linalg.norm(of_x) * np.linalg.norm(of_y)

    def shape(alpha):
        units = (sizes / np.sqrt((sizes**2).sum() / n) for sizes in (s, t))
        total, length = nuclear(*(alpha * sizes + 1 - alpha for sizes in units))
        return total / length

    shrunk = (sizes / np.sqrt(sizes**2 + (sizes**2).sum() / n) for sizes in (s, t))
    cka = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    return {
        "cka": cka,
        "minibatch_cka": cka,  # of so few words
        "cca": nuclear(*shrunk)[0] / min(len(s), len(t)),
        "shape_half": shape(0.5),
        "shape_cca": shape(0.0),
        "own": (k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m),
        "rbf_cka": hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b)),
        "mutual_knn": (shared / 10).mean(),
        "jaccard_knn": (shared / (20 - shared)).mean(),
        "svcca": common.mean(),
        "pwcca": (weights * common).sum() / weights.sum(),
        "shape": np.linalg.norm(x.T @ y, "nuc") / np.linalg.norm(x) / np.linalg.norm(y),
        "rv": (k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m),
    }


def chosen(*methods, **options):
    return ba.Scoring(methods, ba.protocol("audited", timed=False, **options), ks=(1, 10))


def test_values_equal_plain_numpy(words, planted):
    ba.register_measure("own")(own)
    vectors, responses = planted
    names = [*numpy_values(responses[0].values, vectors[0]), "rank_overlap"]
    scoring = chosen(*names)
    rows = score("planted", responses, make_embeddings(words, vectors), scoring).rows
    assert (rows["metric"] == rows["method"]).all() and (rows["fold"] == -1).all()
    by_place = rows.set_index(["subject", "layer", "method"])["value"]
    assert len(by_place) == len(responses) * len(vectors) * len(names)
    for subject in responses:
        for layer, values in enumerate(vectors):
            for name, expected in numpy_values(subject.values, values).items():
                value = by_place[subject.subject, layer, name]
                np.testing.assert_allclose(value, expected, atol=2e-5, err_msg=name)


def test_a_study_of_measures_alone(dataset, words, planted, tmp_path):
    ba.register_measure("own")(own)
    model = make_embeddings(words, planted[0])
    out = tmp_path / "out"
    options = dict(evidence=PLAN, progress=False)
    table = ba.run_study(
        dataset, [model], chosen("cka", "mutual_knn", "own", "rsa_weighted"), out, **options
    )
    by_method = table.extras["similarity"].set_index(["model", "method"]).loc["model"]
    assert (by_method["layer"] == 1).all() and (by_method["p"] == 0.01).all()
    assert (by_method["score"] > by_method["null_high"]).all() and (by_method["k"] == 0).all()
    assert by_method.loc["mutual_knn", "chance"] == pytest.approx(10 / 59)
    group = table.pooled("cka", subject="group").set_index(["model", "layer"])["value"]
    assert by_method.loc["cka", "score"] == pytest.approx(group["model", 1], abs=1e-5)
    assert table.verdict().startswith("Yes. On planted the model's vectors resemble the responses")
    for name in table.measures():
        assert (out / "figures" / f"{name}_by_layer.png").is_file()
    again = ba.ResultTable.load(out)
    assert again.verdict() == table.verdict() and str(again) == str(table)
    page = (out / "report.html").read_text("utf-8")
    assert page.count("Grey dashed line: no similarity.") == 3  # not of own
    assert np.isnan(by_method.loc["own", "chance"]) and "unrelated vectors 0.000" not in str(table)
    numbers = [
        extras["similarity"].select_dtypes("number") for extras in (again.extras, table.extras)
    ]
    pd.testing.assert_frame_equal(*numbers)
    layers = (
        table.extras["similarity_layers"].query("role == 'model'").set_index(["method", "layer"])
    )
    for name, line in by_method.iterrows():
        of_layers = layers.loc[name]
        assert of_layers["score"].idxmax() == line["layer"] and of_layers["p"].min() == line["p"]
        assert of_layers["score"].max() == line["score"]
        assert (of_layers["null_mean"] <= line["null_mean"]).all()  # of the best layer of each draw
        reach = of_layers["ceiling"] - of_layers["null_mean"]
        above = of_layers["score"] - of_layers["null_mean"]
        np.testing.assert_allclose(of_layers["calibrated"], above / reach)
    report = (out / "report.html").read_text("utf-8")
    assert "Measures of similarity by layer" in report
    assert "Linear CKA, debiased" in report and "P@" not in report
    assert "mutual_knn" in table._repr_html_()


def test_what_is_left_out_for_memory_stands_in_report_and_manifest(
    dataset, words, planted, tmp_path, monkeypatch
):
    monkeypatch.setattr("brainalign_jax.study.memory._LEAST_RDMS", 1)
    model = make_embeddings(words, planted[0])
    computation = Computation(threads=1, rdm_bytes=100_000)
    options = dict(evidence=PLAN, progress=False, computation=computation)
    with pytest.warns(UserWarning, match="no evidence on cka"):
        ba.run_study(dataset, [model], chosen("cka"), tmp_path, **options)
    (said,) = ba.ResultTable.load(tmp_path).manifest["left_out_evidence"]
    assert said.startswith("no evidence on cka: it takes ") and "--max_memory_gb" in said
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f'<p class="note">N{said[1:]}.</p>' in page.split("<h2>Evidence</h2>")[1]


def test_folds_ks_and_neighbours_of_what_decodes_are_of_no_account(dataset, words, planted):
    scoring = ba.Scoring(("cka",), ba.protocol("paper"))
    assert max(scoring.ks) > len(words) < scoring.protocol.csls_k
    model = make_embeddings(words, planted[0])
    table = ba.run_study(dataset, [model], scoring, evidence=PLAN, progress=False)
    line = table.extras["similarity"].set_index("model").loc["model"]
    assert line["layer"] == 1 and line["p"] == 0.01 and line["ceiling"] > 0.1
    assert "chance" not in table.extras


def test_the_verdict_of_one_person_has_no_place_for_an_interval(dataset, words, planted):
    alone = replace(dataset, subjects=dataset.subjects[:1])
    model = make_embeddings(words, planted[0])
    table = ba.run_study(alone, [model], chosen("cka"), evidence=PLAN, progress=False)
    said = table.verdict()
    assert "similarity" in said and "  " not in said and " ." not in said and " ;" not in said


def test_beside_methods_that_decode_the_verdict_is_theirs(dataset, words, planted):
    model = make_embeddings(words, planted[0])
    options = dict(evidence=PLAN, progress=False)
    both = ba.run_study(dataset, [model], chosen("procrustes", "cka"), **options)
    alone = ba.run_study(dataset, [model], chosen("procrustes"), **options)
    assert both.verdict() == alone.verdict()
    for name in ("evidence", "nulls", "ceilings", "ranks"):
        pd.testing.assert_frame_equal(both.extras[name], alone.extras[name])
    assert both.extras["similarity"]["method"].unique().tolist() == ["cka"]


def test_rsa_stands_among_measures_that_are_asked_for(dataset, words, planted, monkeypatch):
    model = make_embeddings(words, planted[0])
    options = dict(evidence=PLAN, progress=False)
    permuted, permute = [], similarity._permuted
    monkeypatch.setattr(
        similarity,
        "_permuted",
        lambda *sides, measure: permuted.append(measure.name) or permute(*sides, measure=measure),
    )
    both = ba.run_study(dataset, [model], chosen("cka", "rsa"), **options)
    alone = ba.run_study(dataset, [model], chosen("rsa"), **options)
    assert not len(alone.extras["similarity"]) and both.verdict() == alone.verdict()
    assert set(permuted) == {"cka"}  # the permutations of RSA are those of its table
    by_method = both.extras["similarity"].set_index(["model", "method"]).loc["model"]
    assert by_method.index.tolist() == ["cka", "rsa"] and (by_method["k"] == 0).all()
    of_rsa = both.extras["rsa"].set_index(["model", "layer"])
    place = "model", by_method.loc["rsa", "layer"]
    assert by_method.loc["rsa", "score"] == pytest.approx(of_rsa.loc[place, "rsa"], abs=1e-5)
    assert by_method.loc["rsa", "p"] == of_rsa.loc[place, "p"]
    assert (
        0
        < by_method.loc["rsa", "calibrated"]
        == pytest.approx(
            (by_method.loc["rsa", "score"] - by_method.loc["rsa", "null_mean"])
            / (by_method.loc["rsa", "ceiling"] - by_method.loc["rsa", "null_mean"])
        )
    )


def test_a_comparison_of_rdms_without_permutations_says_so(dataset, words, planted):
    model = make_embeddings(words, planted[0])
    options = dict(evidence=replace(PLAN, n_permutations=9), progress=False)
    scoring = chosen("cka", "rsa", rdm_comparison="kendall_tau_a")
    said = "RSA score by kendall_tau_a has no permutations, ceiling or calibrated values: compare RDMs by"
    with pytest.warns(UserWarning, match=said):
        table = ba.run_study(dataset, [model], scoring, **options)
    assert set(table.extras["similarity"]["method"]) == {"cka"} and not len(table.extras["rsa"])
    assert any(said in note for note in table.manifest["notes"])
    assert len(table.pooled("rsa", subject="group"))
    said = said_of_untested(chosen("rsa", rdm_comparison="corr_cov"))
    assert said.startswith("The RSA score by corr_cov has its permutations, ceiling and calibrated")


@pytest.mark.parametrize("comparison", ["spearman", "pearson"])
def test_rdms_as_matrices_correlate_as_condensed_ones(planted, comparison):
    protocol = ba.protocol("audited", timed=False, rdm_comparison=comparison)
    measure = RdmMeasure(protocol.of_method("rsa"))
    responses, vectors = planted[1][0].values, planted[0][0]
    value = measure.compare(*(measure.represent(jnp.asarray(x)) for x in (responses, vectors)))
    pairs = [pdist(np.asarray(x, np.float64), "correlation") for x in (responses, vectors)]
    correlation = {"spearman": spearmanr, "pearson": pearsonr}[comparison]
    assert float(value) == pytest.approx(correlation(*pairs).statistic, abs=1e-5)


def test_ceiling_of_correlation_distances_is_that_of_the_others_side_by_side(words):
    rng = np.random.default_rng(5)
    shared = rng.standard_normal((60, 2))
    people = [
        shared @ rng.standard_normal((2, width))
        + rng.standard_normal((60, width))
        + 2 * rng.standard_normal((60, 1))  # of a word, in all voxels
        for width in (8, 12, 20)
    ]
    responses = [make_responses(words, rows, subject=f"S{i}") for i, rows in enumerate(people)]
    by_name = {recording.subject: recording for recording in responses}
    several = Dataset("levels", tuple(by_name), words, by_name.__getitem__)
    model = make_embeddings(words, shared[None])
    plan = replace(PLAN, n_permutations=0)
    ceilings = {}
    for metric in ("correlation", "spearman"):
        scoring = chosen("rsa", "cka", rdm_metric=metric)
        study = Study(several, (model.model,), scoring, evidence=plan, given={model.model: model})
        ceilings[metric] = similarity_evidence(study)[0].set_index("method")["ceiling"]
    people = [rows - rows.mean(axis=0) for rows in people]
    rdms = [pdist(rows, "correlation") for rows in people]
    people = [rows - rows.mean(axis=1, keepdims=True) for rows in people]
    people = [rows / np.linalg.norm(rows) for rows in people]
    by_hand = [
        spearmanr(rdm, pdist(np.hstack(people[:i] + people[i + 1 :]), "correlation")).statistic
        for i, rdm in enumerate(rdms)
    ]
    assert ceilings["correlation"]["rsa"] == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert np.isnan(ceilings["spearman"]["rsa"])
    assert ceilings["spearman"]["cka"] == ceilings["correlation"]["cka"]


def test_responses_that_are_of_nothing_show_nothing(dataset, words, planted):
    rng = np.random.default_rng(3)
    model = make_embeddings(words, rng.standard_normal((2, 60, 12)))
    table = ba.run_study(dataset, [model], chosen("cka"), evidence=PLAN, progress=False)
    assert table.extras["similarity"]["p"].iloc[0] > 0.05
    assert table.verdict().startswith("No. On planted nothing resembles the responses more than")


@pytest.mark.parametrize("plan", [None, PLAN])
def test_a_measure_of_no_number_is_reported_and_proves_nothing(
    plan, dataset, words, planted, tmp_path
):
    ba.register_measure("undefined")(lambda brain, model: jnp.nan * own(brain, model))
    model = make_embeddings(words, planted[0])
    table = ba.run_study(
        dataset, [model], chosen("undefined"), tmp_path, evidence=plan, progress=False
    )
    assert (tmp_path / "report.html").is_file() and table.rows["value"].isna().all()
    if plan is not None:
        said = table.verdict()
        assert said.startswith("Untested. On planted no p was computed.") and "chance" not in said
        assert "a score that is no number proves nothing" in said and "without nulls" not in said


@pytest.mark.parametrize("name", [*registry.measures_of(registry.BUILT_IN), "own"])
def test_draws_equal_the_measure_of_permuted_words_and_find_nothing_in_noise(name):
    ba.register_measure("own")(own)
    protocol = ba.protocol("audited", timed=False)
    measure = RdmMeasure(protocol) if name == "rsa" else measure_of(name, protocol)
    rng = np.random.default_rng(0)
    orders = np.stack([np.arange(16), *(rng.permutation(16) for _ in range(39))]).astype(np.int32)

    @jax.jit
    def drawn(brains, models):
        return measure.drawn(
            jax.vmap(measure.represent)(brains), jax.vmap(measure.represent)(models), orders
        )

    represent, compare = jax.jit(measure.represent), jax.jit(measure.compare)
    p = []
    for study in range(200):
        brains, models = rng.standard_normal((2, 16, 8)), rng.standard_normal((3, 16, 6))
        values = np.asarray(drawn(brains, models))
        if study == 0:
            for draw, subject, layer in ((0, 1, 2), (7, 0, 1), (39, 1, 0)):
                moved = represent(brains[subject][orders[draw]])
                expected = compare(moved, represent(models[layer]))
                np.testing.assert_allclose(values[draw, subject, layer], expected, atol=2e-6)
        group = values.mean(axis=1).max(axis=1)
        p.append(permutation_p(group[0], group[1:]))
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


@pytest.mark.parametrize("name", ["cca", "shape", "shape_half"])
def test_draws_of_many_axes_equal_the_measure_by_singular_values(name):
    measure = measure_of(name, ba.protocol("audited", timed=False))
    rng = np.random.default_rng(0)
    brains, models = (rng.standard_normal((2, 50, 40)).astype(np.float32) for _ in "bm")
    orders = np.stack([rng.permutation(50) for _ in range(2)]).astype(np.int32)
    of_brains, of_models = (jax.vmap(measure.represent)(side) for side in (brains, models))
    values = jax.jit(measure.drawn)(of_brains, of_models, orders)
    for draw, subject, layer in np.ndindex(2, 2, 2):
        moved = measure.represent(brains[subject][orders[draw]])
        expected = measure.compare(moved, measure.represent(models[layer]))
        np.testing.assert_allclose(values[draw, subject, layer], expected, rtol=2e-5)


def test_batches_are_fewer_bytes_and_move_with_the_words(monkeypatch):
    monkeypatch.setattr("brainalign_jax.study.score.measures.kernels.BATCH", 8)
    measure = measure_of("minibatch_cka", ba.protocol("audited", timed=False))
    assert measure.needed_bytes(1, 800, Computation(threads=1)) == 4 * 800 * 8 * 5
    rng = np.random.default_rng(0)
    rows, order = rng.standard_normal((20, 5)).astype(np.float32), rng.permutation(20)
    brain, model = measure.represent(jnp.asarray(rows)), measure.represent(jnp.asarray(rows[order]))
    assert brain.kernels.shape == (3, 7, 7)
    assert float(measure.compare(brain, model)) < 0.7
    np.testing.assert_allclose(measure.compare(measure.permuted(brain, order), model), 1, atol=1e-5)


@pytest.mark.parametrize(("n_voxels", "width", "place"), [(80, 5, "brain"), (8, 70, "model")])
def test_whitened_shapes_of_as_many_axes_as_words_are_refused(words, n_voxels, width, place):
    rng = np.random.default_rng(0)
    recording = make_responses(words, rng.standard_normal((60, n_voxels)))
    model = make_embeddings(words, rng.standard_normal((2, 60, width)))
    with pytest.raises(ValueError, match=f"axes alone where 60 words have 59 in the {place}: take"):
        score("wide", [recording], model, chosen("shape_cca"))


def test_whitened_shapes_have_no_ceiling_of_as_many_axes_as_words(words):
    rng = np.random.default_rng(0)
    people = [
        make_responses(words, rng.standard_normal((60, 32)), subject=subject) for subject in "abc"
    ]
    dataset = Dataset("d", ("a", "b", "c"), words, dict(zip("abc", people, strict=True)).get)
    model = make_embeddings(words, rng.standard_normal((1, 60, 5)))
    plan = replace(PLAN, n_permutations=9, n_bootstraps=100, controls=(), untrained_seeds=0)
    table = ba.run_study(dataset, [model], chosen("shape_cca"), evidence=plan, progress=False)
    assert table.extras["similarity"]["ceiling"].isna().all()


def test_what_does_not_fit_is_compared_by_subject_or_refused(words, planted):
    vectors, responses = planted
    model, scoring = make_embeddings(words, vectors), chosen("cka")
    whole = score("planted", responses, model, scoring).rows
    needed = measure_of("cka", scoring.protocol).needed_bytes(1, 60, Computation(threads=1))
    by_one = Computation(threads=1, rdm_bytes=needed)
    pd.testing.assert_frame_equal(
        score("planted", responses, model, scoring, computation=by_one).rows, whole
    )
    with pytest.raises(
        ValueError, match="cka of 60 words takes 72,000 bytes, more than the 71,999"
    ):
        score(
            "planted",
            responses,
            model,
            scoring,
            computation=dataclasses.replace(by_one, rdm_bytes=needed - 1),
        )


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            lambda r, v: r @ r.T,
            r"the measure 'own' gives \(60, 60\); its function must return one number",
        ),
        (
            lambda r, v: None,
            "the measure 'own' gives NoneType; its function must return one number",
        ),
        (lambda r, v: r[0], r"gives \(\d+,\); its function must return one number"),
    ],
)
def test_what_is_no_number_is_refused(words, planted, returned, message):
    ba.register_measure("own")(returned)
    vectors, responses = planted
    with pytest.raises((ValueError, TypeError), match=message):
        score("planted", responses, make_embeddings(words, vectors), chosen("own"))


def test_names():
    for name in registry.BUILT_IN:
        with pytest.raises(ValueError, match=f"{name!r} is taken by"):
            ba.register_measure(name)(own)
    with pytest.raises(ValueError, match="'r2' is what the scores of every method are called"):
        ba.register_measure("r2")
    ba.register_measure("own")(own)
    with pytest.raises(ValueError, match="'own' is taken by"):
        ba.register_method("own")(lambda responses, vectors, weights: responses.T @ vectors)
    scoring = ba.Scoring(methods=("own", "rsa", "ridge", "cka"))
    assert scoring.measures == ("own", "rsa", "cka") and scoring.decoders == ("rsa", "ridge")
    with pytest.raises(ValueError, match="cka compares all words at once.*leave cka out"):
        chosen("ridge", "cka", n_voxels=10)
    with pytest.raises(
        ValueError, match="cka gives a number and decodes no words, which the ladder"
    ):
        ba.studies.ladder.run_ladder(None, [], "out", methods=("ridge", "cka"))


def test_where_the_null_depends_on_the_vectors_controls_have_one_of_their_own(words, planted):
    """Shapes of vectors that vary in many axes are near to all others."""
    vectors, responses = planted
    rng = np.random.default_rng(2)
    few = (vectors * np.geomspace(1, 0.02, 12)).astype(np.float32)
    model = make_embeddings(words, few, name="model")
    twin = make_embeddings(words, rng.standard_normal((3, 60, 50)), name="untrained:model")
    data = Dataset(
        "planted",
        tuple(r.subject for r in responses),
        words,
        {r.subject: r for r in responses}.__getitem__,
    )
    table = ba.run_study(data, [model, twin], chosen("shape", "cka"), evidence=PLAN, progress=False)
    lines = table.extras["similarity"].set_index(["method", "model"])
    shape, control = lines.loc["shape", "model"], lines.loc["shape", "untrained:model"]
    assert control["null_mean"] > shape["null_mean"] + 0.05
    assert np.isnan(control["p"]) and shape["p"] == 0.01
    expected = shape["score"] - shape["null_mean"] - control["score"] + control["null_mean"]
    assert shape["control_difference"] == pytest.approx(expected) and shape["control_lower"] > 0
    assert abs(control["calibrated"]) < 0.3
    assert np.isnan(lines.loc["cka", "untrained:model"]["null_mean"])
    assert "difference of what exceeds the null of each" in " ".join(
        v.text for v in verdicts(table)
    )


def test_the_layer_of_a_measure_with_a_null_of_its_own_is_the_best_beyond_that_null(words):
    """Vectors of many axes are near to all shapes; those of two axes are in the brain."""
    rng = np.random.default_rng(4)
    signal = rng.standard_normal((60, 2))
    few = np.pad(signal, ((0, 0), (0, 28)))
    model = make_embeddings(words, np.stack([rng.standard_normal((60, 30)), few]), name="model")
    people = {
        f"S{i}": make_responses(
            words,
            0.3 * signal @ rng.standard_normal((2, 30)) + rng.standard_normal((60, 30)),
            subject=f"S{i}",
        )
        for i in range(2)
    }
    data = Dataset("planted", tuple(people), words, people.__getitem__)
    plan = replace(PLAN, n_permutations=39)
    table = ba.run_study(data, [model], chosen("shape"), evidence=plan, progress=False)
    line = table.extras["similarity"].iloc[0]
    layers = table.extras["similarity_layers"]
    layers = layers[layers["role"] == "model"].set_index("layer")
    assert layers["score"].idxmax() == 0 and layers["calibrated"].idxmax() == 1
    assert line["layer"] == 1 and line["score"] == layers.loc[1, "score"]
    assert line["p"] == layers["p"].min() == 1 / 40 and line["null_high"] < line["score"]
    header, cells = measure_cells(table)
    assert header[2] == "best layer" and cells[0][2] == "1"
    note = evidence_values(table)["parts"][0]["scores"].note
    assert "the best layer is the one that most exceeds its own draws" in note
    assert "where they have no null of their own" in note
    notes = []
    scores = read_scores([table], Performance(metric="shape"), notes)
    values = table.pooled("shape", layer=1).set_index("subject")["value"]
    np.testing.assert_allclose(scores.set_index("subject")["score"], values[["S0", "S1"]])
    assert notes[0] == PICKED_JUDGED


@pytest.mark.parametrize("comparison", ["pearson", "spearman", "kendall_tau_a"])
def test_weighted_layers_predict_pairs_of_words_that_were_held_out(words, comparison):
    """Against SciPy's nnls; of layers of which the last two together make the responses."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, 60, 8))
    brain = np.hstack([vectors[1], 2 * vectors[2], rng.standard_normal((60, 8))])
    model, people = make_embeddings(words, vectors), [make_responses(words, brain)]
    scoring = chosen("rsa_weighted", rdm_comparison=comparison, rdm_metric="euclidean")
    if comparison == "kendall_tau_a":
        with pytest.raises(ValueError, match="least squares, which kendall_tau_a has not: take"):
            score("planted", people, model, scoring)
        return
    values = score("planted", people, model, scoring).rows.set_index("layer")["value"]
    square = squareform(pdist(brain))
    for layer in range(3):
        components = [squareform(pdist(rows)) for rows in vectors[: layer + 1]]
        of_folds = []
        for test in word_folds(60).test:
            (x, y), (held_x, held_y) = (
                (
                    np.stack([squareform(rdm[np.ix_(part, part)]) for rdm in components]),
                    squareform(square[np.ix_(part, part)]),
                )
                for part in (~test, test)
            )
            x = x - x.mean(axis=1, keepdims=True)
            weights = nnls(x.T, y - y.mean())[0]
            correlation = pearsonr if comparison == "pearson" else spearmanr
            of_folds.append(correlation(weights @ held_x, held_y).statistic if weights.any() else 0)
        np.testing.assert_allclose(values[layer], np.mean(of_folds), atol=2e-4)
    assert values[2] > values[1] + 0.1 > values[0] + 0.1


@pytest.mark.parametrize("name", ["mutual_knn", "jaccard_knn", "rank_overlap"])
def test_chance_is_the_mean_over_unrelated_vectors(name):
    measure = measure_of(name, ba.protocol("audited", timed=False))
    rng = np.random.default_rng(1)
    sides = rng.standard_normal((2, 300, 40, 20)).astype(np.float32)
    values = jax.jit(jax.vmap(lambda x, y: measure.compare(*map(measure.represent, (x, y)))))(
        *sides
    )
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - measure.chance(40)) < 4 * error + 0.002


def test_too_few_words(words, planted):
    few = ba.Stimulus.from_words([f"w{i}" for i in range(10)])
    responses = [ba.WordResponses("S", planted[1][0].values[:10], few)]
    model = make_embeddings(few, planted[0][:, :10])
    scoring = chosen("mutual_knn", n_folds=2, n_inner_folds=2, csls_k=2)
    with pytest.raises(ValueError, match="10 neighbours of each word: 10 words are too few"):
        score("few", responses, model, scoring)
    scoring = dataclasses.replace(scoring, methods=("svcca",))
    with pytest.raises(
        ValueError, match="svcca compares 10 axes of each side: 10 words are too few"
    ):
        score("few", responses, model, scoring)


def test_every_measure_of_a_file_is_known_and_in_the_docs():
    names = registry.measures_of(registry.BUILT_IN)
    assert len(names) > 5 and set(names) <= set(registry.MEASURES)
    page = (Path(registry.__file__).parents[2] / "docs" / "align.md").read_text("utf-8")
    (rows,) = re.findall(r"^\| measure \| what is alike \|.*?\n\n", page, re.M | re.S)
    for name in names:
        assert f"`{name}`" in rows, name


def test_evidence_of_batches_is_there_where_all_inner_products_do_not_fit(
    dataset, words, planted, monkeypatch
):
    monkeypatch.setattr("brainalign_jax.study.score.measures.kernels.BATCH", 8)
    measure = measure_of("minibatch_cka", ba.protocol("audited", timed=False))
    n_subjects, n_types = len(dataset.subjects), 60
    enough = 2 * 4 * measure.held_numbers(n_types, 1) * (n_subjects + 16)
    assert enough < 2 * 4 * n_types**2 * (n_subjects + 16)
    plan = replace(PLAN, controls=(), untrained_seeds=0, n_permutations=9)
    for name, rdm_bytes, n_rows in (
        ("minibatch_cka", enough, 1),
        ("minibatch_cka", enough - 1, 0),
        ("cka", enough, 0),
    ):
        computation = Computation(threads=1, rdm_bytes=rdm_bytes)
        given = {"model": make_embeddings(words, planted[0])}
        study = Study(dataset, ("model",), chosen(name), computation, evidence=plan, given=given)
        what = "ceiling of" if n_rows else "evidence on"
        with pytest.warns(UserWarning, match=f"no {what} {name}: it takes .* give more memory"):
            rows, _ = similarity_evidence(study)
        assert len(rows) == n_rows and len(study.left_out) == 1
        if n_rows:
            assert rows["p"].iloc[0] == 0.1 and np.isnan(rows["ceiling"].iloc[0])


@pytest.mark.parametrize("comparison", ["spearman", "corr_cov"])
def test_the_plan_of_rdms_is_no_less_than_what_xla_holds(comparison):
    protocol = ba.protocol("audited", timed=False, rdm_comparison=comparison)
    measure, n_types = measure_of("rsa", protocol), 300
    rows = jax.ShapeDtypeStruct((n_types, 20), jnp.float32)
    options = dict(metric="cosine", method=comparison)
    held = rsa_measure._vector.lower(rows, **options).compile().memory_analysis()
    for n_subjects, workers in ((1, 1), (20, 1), (2, 4)):
        planned = measure.needed_bytes(n_subjects, n_types, Computation(threads=workers))
        least = held.output_size_in_bytes * (n_subjects + workers)
        assert planned >= least + held.temp_size_in_bytes * workers
