"""Crossnobis distances and whitened comparisons in a study: values, evidence, and what has no repeats."""

import jax
import numpy as np
import pytest
from recordings import make_embeddings, make_responses
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr
from sklearn.covariance import LedoitWolf

import brainalign_jax as ba
from brainalign_jax.align.rsa import whitened
from brainalign_jax.align.rsa.crossnobis import crossnobis
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.timecourse.similarity import check_rsa
from brainalign_jax.study.evidence.chance import permutation_p
from brainalign_jax.study.score.measures.rsa import RdmMeasure
from brainalign_jax.study.score.repeats import presentations, repeated_rows
from brainalign_jax.study.score.sweep import score

T, RUNS, V = 24, 3, 40
PLAN = ba.EvidencePlan(
    n_nulls=1, null="items", n_permutations=99, n_bootstraps=100, controls=(), untrained_seeds=0
)


def chosen(*methods, comparison="corr_cov", **options):
    choices = dict(n_folds=3, n_inner_folds=2, csls_k=3, rdm_metric="crossnobis") | options
    protocol = ba.protocol("audited", timed=False, rdm_comparison=comparison, **choices)
    return ba.Scoring(methods, protocol, ks=(1, 10))


@pytest.fixture(scope="module")
def recorded():
    """(stimulus, two people, vectors [2, T, 6] of which layer 1 is in their responses)."""
    rng = np.random.default_rng(4)
    order = [f"word{i}" for _ in range(RUNS) for i in rng.permutation(T)]
    words = Stimulus(tuple(order), run=np.repeat(np.arange(RUNS), T))
    vectors = rng.standard_normal((2, T, 6))
    _, token_to_type = words.types()
    people = []
    for subject in ("A", "B"):
        evoked = vectors[1] @ rng.standard_normal((6, V))
        noise = rng.standard_normal((T * RUNS, V)) @ np.diag(np.geomspace(0.5, 8, V))
        people.append(make_responses(words, evoked[token_to_type] + noise, subject=subject))
    return words, people, vectors


def by_hand(person):
    """Crossnobis distances of the words, in the voxels, each word's in units of the others' noise."""
    _, token_to_type = person.stimulus.types()
    values = person.values.astype(float)
    runs = np.array(
        [
            [values[(token_to_type == t) & (person.stimulus.run == r)][0] for r in range(RUNS)]
            for t in range(T)
        ]
    )
    residuals = runs - runs.mean(axis=1, keepdims=True)
    flat = residuals.reshape(-1, V)
    fitted = LedoitWolf(assume_centered=True).fit(flat)
    equal = fitted.shrinkage_ * np.trace(flat.T @ flat) / len(flat) / V * np.eye(V)
    factor = RUNS / (RUNS - 1)  # degrees of freedom

    def covariance(products, n_words):
        return factor * (equal + (1 - fitted.shrinkage_) * products / (RUNS * n_words))

    def power(matrix, exponent):
        values, axes = np.linalg.eigh(matrix)
        return axes * values**exponent @ axes.T

    units = []
    for word in range(T):
        every = covariance(flat.T @ flat, T - 1)
        others = covariance(flat.T @ flat - residuals[word].T @ residuals[word], T - 1)
        root, back = power(every, -0.5), power(every, 0.5)
        units.append(
            (runs - runs.mean(axis=0))[word] @ root @ power(back @ power(others, -1) @ back, 0.5)
        )
    distances = []
    for i in range(T):
        for j in range(i + 1, T):
            products = (units[i] - units[j]) @ (units[i] - units[j]).T
            distances.append(products.sum() - np.trace(products))
    return np.array(distances)


def test_noise_has_distances_of_zero_however_often_words_are_presented():
    """In the mean, of more voxels than degrees of freedom; those of words seen seldom are not larger."""
    rng = np.random.default_rng(2)
    counts = np.repeat([2, 8], 10)
    token_to_type, scale = np.repeat(np.arange(20), counts), np.geomspace(4, 0.1, 60)
    seldom = np.add.outer(counts == 2, counts == 2)[np.triu_indices(20, 1)]
    means = []
    for _ in range(12):
        values = rng.standard_normal((len(token_to_type), 60)) * scale
        everywhere = np.ones(len(values), bool)
        rows = repeated_rows(values, token_to_type, everywhere, None, n_features=60)[1]
        distances = np.asarray(crossnobis(rows))
        means.append([distances[seldom].mean(), distances[~seldom].mean()])
    assert (np.abs(np.mean(means, axis=0)) < 3 * np.std(means, axis=0) / np.sqrt(12)).all()


@pytest.mark.parametrize("comparison", ["pearson", "cosine_cov"])
def test_scores_equal_numpy(recorded, comparison):
    words, people, vectors = recorded
    scoring = chosen("rsa", comparison=comparison)
    rows = score("planted", people, make_embeddings(words, vectors), scoring).rows
    values = rows[rows["metric"] == "rsa"].set_index(["subject", "layer"])["value"]
    for person in people:
        distances = by_hand(person).astype(np.float32)
        for layer in (0, 1):
            model = pdist(vectors[layer], "sqeuclidean").astype(np.float32)
            expected = (
                pearsonr(distances, model).statistic
                if comparison == "pearson"
                else float(whitened.compare(distances, model))
            )
            assert values[person.subject, layer] == pytest.approx(expected, abs=1e-4)


def study(words, people, vectors, *methods, **options):
    dataset = Dataset(
        "d", tuple(p.subject for p in people), words, {p.subject: p for p in people}.__getitem__
    )
    model = make_embeddings(words, vectors)
    return ba.run_study(
        dataset, [model], chosen(*methods, **options), evidence=PLAN, progress=False
    )


def test_what_is_planted_is_told_from_permuted_words(recorded):
    words, people, vectors = recorded
    table = study(words, people, vectors, "rsa", "cka", comparison="spearman")
    of_rsa = table.extras["rsa"].set_index("layer")
    assert of_rsa.loc[1, "p"] == 0.01 and of_rsa.loc[1, "n_items"] == T
    by_method = table.extras["similarity"].set_index("method")
    assert by_method.loc["rsa", "layer"] == 1 and by_method.loc["rsa", "p"] == 0.01
    assert by_method.loc["rsa", "score"] == pytest.approx(of_rsa.loc[1, "rsa"], abs=1e-5)
    table = study(words, people, vectors, "rsa")  # whitened: the other table has no tests of it
    assert not len(table.extras["rsa"])
    (line,) = table.extras["similarity"].to_dict("records")
    assert line["method"] == "rsa" and line["layer"] == 1 and line["p"] == 0.01
    assert line["score"] > line["null_high"] > line["null_mean"] > -0.1


def test_the_whitened_cosine_has_a_null_of_its_own(recorded):
    """Of distances as they are, which are above zero: of unrelated vectors it depends on their axes."""
    words, people, vectors = recorded
    few = vectors * np.geomspace(1, 0.05, 6)
    layers = np.stack([vectors[0] + 3 * few[0][:, :1], vectors[1]])
    options = dict(comparison="cosine_cov", rdm_metric="cosine")
    table = study(words, people, layers, "rsa", **options)
    of_layers = table.extras["similarity_layers"].set_index("layer")
    assert of_layers["null_mean"].gt(0.1).all() and of_layers.loc[1, "p"] == 0.01
    assert np.isnan(of_layers["chance"]).all()


@pytest.mark.parametrize("comparison", ["cosine_cov", "spearman"])
def test_noise_is_found_as_often_as_p_says(comparison):
    measure = RdmMeasure(chosen("rsa", comparison=comparison).protocol)
    rng = np.random.default_rng(1)
    orders = np.stack([np.arange(16), *(rng.permutation(16) for _ in range(39))]).astype(np.int32)

    @jax.jit
    def drawn(brains, models):
        return measure.drawn(
            jax.vmap(measure.represent)(brains), jax.vmap(measure.represent)(models), orders
        )

    p, values = [], []
    for _ in range(200):
        brains, models = rng.standard_normal((2, 16, 3, 8)), rng.standard_normal((3, 16, 6))
        group = np.asarray(drawn(brains, models)).mean(axis=1)
        values.append(group[0].mean())
        p.append(permutation_p(group[0].max(), group[1:].max(axis=1)))
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_presentations():
    types = np.array([0, 1, 0, 2, 1, 0, 2, 2, -1])
    eligible = types >= 0
    assert presentations(types, eligible, None).tolist() == [0, 0, 1, 0, 1, 2, 1, 2, -1]
    runs = np.array([5, 5, 5, 5, 3, 3, 3, 4, 4])
    assert presentations(types, eligible, runs).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, -1]
    eligible[4] = False
    assert presentations(types, eligible, runs).tolist() == [0, -1, 0, 0, -1, 1, 1, 2, -1]


def test_words_without_repeats_are_left_out_and_none_with_them_is_refused(recorded):
    words, people, vectors = recorded
    _, types = words.types()
    values = people[0].values
    eligible = (types > 2) | (words.run == 0)
    kept, rows = repeated_rows(values, types, eligible, words.run, n_features=V)
    assert kept.tolist() == list(range(3, T)) and rows.shape == (T - 3, RUNS, V)
    stimulus = Stimulus(words.words[:T], run=words.run[:T])
    person = make_responses(stimulus, values[:T])
    model = make_embeddings(stimulus, vectors)
    message = "and 0 of 24 words have two or more in different runs: take recordings with repeats"
    with pytest.raises(ValueError, match=message):
        score("few", [person], model, chosen("rsa"))
    with pytest.raises(ValueError, match="takes a word's mean response, which crossnobis has not"):
        check_rsa(chosen("rsa", comparison="spearman"))


def test_parts_are_runs_where_no_repeated_word_lacks_one():
    words = np.array([0, 1, 2, 3, 4, 2, 0, 1, 2, 1, 0, 3])
    run, every = np.repeat([7, 3, 5], [5, 4, 3]), np.ones(12, bool)
    by_word = [0, 0, 0, 0, -1, 1, 1, 1, 1, 2, 2, 1]
    assert presentations(words, every, run, parts="presentations").tolist() == by_word
    # Words 2 and 3 are in two runs, words 0 and 1 in all three.
    by_run = [0, 0, -1, -1, -1, -1, 1, 1, -1, 2, 2, -1]
    assert presentations(words, every, run, parts="runs").tolist() == by_run
    assert presentations(words, every, run).tolist() == by_word
    balanced = every & (words < 2)
    both = [presentations(words, balanced, run, parts=p).tolist() for p in ("auto", "runs")]
    assert both[0] == both[1] == by_run
    assert presentations(words, every, None)[[2, 5, 8]].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="this recording has no runs: take --rdm_parts=presentat"):
        presentations(words, every, None, parts="runs")
    with pytest.raises(
        ValueError, match="has one, whose noise presentations share: take another --rdm_metric"
    ):
        presentations(words, every, np.zeros(12), parts="runs")
    values = np.random.default_rng(0).standard_normal((12, 5))
    with pytest.raises(
        ValueError, match="every run that has repeated words: 2 of 5 do; take --rdm"
    ):
        repeated_rows(values, words, every, run, n_features=5, parts="runs")


def test_noise_of_a_run_is_in_no_distance_by_runs():
    """Where some words lack a run, the second presentation of a word is in the run of another's first."""
    rng = np.random.default_rng(0)
    n_words, n_runs = 30, 3
    words = np.tile(np.arange(n_words), n_runs)
    run = np.repeat(np.arange(n_runs), n_words)
    eligible = ~((words >= 20) & (words < 25) & (run == 0)) & ~((words >= 25) & (run == 2))
    means = {parts: [] for parts in ("runs", "presentations")}
    for _ in range(40):
        shared = 3 * rng.standard_normal((n_runs, 12))
        values = rng.standard_normal((len(words), 12)) + shared[run]
        for parts, of_studies in means.items():
            types, rows = repeated_rows(values, words, eligible, run, n_features=12, parts=parts)
            of_studies.append(float(crossnobis(jax.numpy.asarray(rows)).mean()))
    error = {parts: np.std(x) / np.sqrt(len(x)) for parts, x in means.items()}
    assert abs(np.mean(means["runs"])) < 3 * error["runs"]
    assert abs(np.mean(means["presentations"])) > 4 * error["presentations"]
