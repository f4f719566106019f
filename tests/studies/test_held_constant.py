"""Features of words held constant: against plain NumPy, what length alone makes, a planted head, refusals."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from recordings import make_embeddings
from scipy.stats import rankdata
from studies.test_ablation import QUICK, recorded, written

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.ablation import AblationTable, run_ablation
from brainalign_jax.studies.ablation.held_constant import held_features
from brainalign_jax.studies.ablation.scores import PersonScores
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol

N = 60
ALPHA = 0.1
FOLDS = protocol(
    "audited", timed=False, n_folds=4, n_inner_folds=2, alphas=(0.01, ALPHA, 1.0), vector_axes=0
)
ONE_LAYER = dict(
    alphas=(ALPHA,), candidate_scaling="none", layer_selection="inner_folds", csls_queries="fold",
    queries="types", csls_k=3, rdm_metric="correlation",
)  # fmt: skip


@pytest.fixture(scope="module")
def words():
    """Sentences of five words of one to eight letters; every sixth is one that came before."""
    rng = np.random.default_rng(0)
    drawn = ("".join(rng.choice(list("abcdefghijklmnop"), rng.integers(1, 9))) for _ in range(300))
    words = list(dict.fromkeys(drawn))[:N]
    words = [words[i - 5] if i % 6 == 5 else word for i, word in enumerate(words)]
    return Stimulus(tuple(words), sentence=np.arange(N) // 5)


@pytest.fixture(scope="module")
def model(folder_of):
    return folder_of("gpt2", sharpness=4.0)


def residual(rows, features, known):
    """Rows less their least-squares fit by the features, with an intercept, over the known rows."""
    columns = np.column_stack([np.ones(len(features)), features])
    coefficients = np.linalg.lstsq(columns[known], rows[known], rcond=None)[0]
    return rows - columns @ coefficients


def less_features(x, vectors, features, train, types):
    """Responses and vectors of the types, both fitted at the training tokens."""
    columns = np.column_stack([np.ones(len(features)), features])
    fit = np.linalg.lstsq(columns[types[train]], vectors[types[train]], rcond=None)[0]
    return residual(x, features[types], train), vectors - columns @ fit


def ranks_by_ridge(x, vectors, features, train, test, types):
    """Rank of each tested word's vector by the cosine with what ridge predicts of it, all beyond features."""
    x, vectors = less_features(x, vectors, features, train, types)
    x = x - x[train].mean(axis=0)
    gram = x[train].T @ x[train]
    penalty = ALPHA * np.trace(gram) / len(train) * np.eye(len(gram))
    weight = np.linalg.solve(gram + penalty, x[train].T @ vectors[types[train]])
    return {
        word: ranks_of(x[test[types[test] == word]].mean(axis=0) @ weight, vectors, word)
        for word in np.unique(types[test])
    }


def ranks_by_rsa(x, vectors, features, train, test, types):
    """The same by the partial correlation of the word's similarities to the training words."""
    x, vectors = less_features(x, vectors, features, train, types)
    known = np.unique(types[train])
    brain = np.stack([x[train[types[train] == word]].mean(axis=0) for word in known])
    mean, model_mean = x[train].mean(axis=0), vectors[known].mean(axis=0)
    confounds = np.column_stack([features[known], features[known] ** 2])
    every = np.arange(len(known))
    similar = np.corrcoef(vectors - model_mean)
    profiles = similar[:, known].copy()
    for column, word in enumerate(known):  # a word's similarity with itself says nothing
        profiles[word, column] = np.delete(similar[word, known], column).mean()
    profiles = residual(profiles.T, confounds, every).T
    by_word = {}
    for word in np.unique(types[test]):
        row = x[test[types[test] == word]].mean(axis=0) - mean
        profile = np.array([np.corrcoef(row, other - mean)[0, 1] for other in brain])
        by_word[word] = ranks_of(residual(profile[:, None], confounds, every)[:, 0], profiles, word)
    return by_word


def ranks_of(predicted, candidates, word):
    cosine = candidates @ predicted / np.linalg.norm(candidates, axis=1)
    return rankdata(-cosine)[word]


def ranks_of_a_layer(dataset, vectors, method, features):
    """(ranks of the tested words by a map of one layer of vectors [T, D], the folds) of the first person."""
    embeddings = make_embeddings(dataset.stimulus, vectors[None])
    scoring = Scoring(methods=(method,), ks=(1,), protocol=dataclasses.replace(FOLDS, **ONE_LAYER))
    with ThreadPoolExecutor(1) as pool:
        responses = [dataset.load("S0")]
        people = PersonScores(responses, embeddings, scoring, Computation(), pool, features)
        ranks = people.intact(0, method).ranks[0, 0]
        return ranks, people._work(0, method)[0].folds.outer


@pytest.mark.parametrize("method", ["ridge", "rsa"])
def test_ranks_are_those_of_residuals_by_hand(method, words):
    rng = np.random.default_rng(3)
    _, types = words.types()
    vectors = rng.standard_normal((types.max() + 1, 8))
    features = held_features(words, ("length", "frequency"), lower=False)
    assert features.names == ("letters", "log_frequency") and features.notes == ()
    vectors += features.values @ rng.standard_normal((2, 8))
    dataset = recorded(words, vectors[types], noise=1.0, n_people=1)
    ranks, folds = ranks_of_a_layer(dataset, vectors, method, features)
    by_hand = {"ridge": ranks_by_ridge, "rsa": ranks_by_rsa}[method]
    x = dataset.load("S0").values.astype(float)
    for train, test in zip(folds.train, folds.test, strict=True):
        rows = np.flatnonzero(train), np.flatnonzero(test)
        for word, rank in by_hand(x, vectors, features.values, *rows, types).items():
            assert abs(ranks[word] - rank) <= 0.5, (word, ranks[word], rank)
    # What length and frequency alone make is there without, and gone with them.
    made = features.values @ rng.standard_normal((2, 16))
    alone = recorded(words, made[types], noise=0.3, n_people=1)
    means = []
    for held in (None, features):
        ranks = ranks_of_a_layer(alone, vectors, method, held)[0]
        means.append(ranks[ranks > 0].mean() / len(vectors))
    assert means[0] < 0.3 and means[1] > 0.42, means


def test_a_planted_head_stays_where_length_is_held_constant(words, model, tmp_path):
    length = np.array([[len(word)] for word in words.words], float)
    signal = written(words, model, 0, 2)[words.types()[1]]
    planted = recorded(words, signal + 0.5 * length / length.std() * signal.std(), noise=0.5)
    heads = tuple(f"head:0.{head}" for head in range(4))
    plan = dataclasses.replace(QUICK, components=heads, hold_constant=("length", "length"))
    scoring = Scoring(methods=("ridge", "rsa"), ks=(1,), protocol=FOLDS)
    table = run_ablation(
        planted, [model], tmp_path / "out", plan=plan, scoring=scoring, progress=False
    )
    for method, readout in (("ridge", "refit"), ("ridge", "frozen"), ("rsa", "refit")):
        rows = table.group(metric="rank_accuracy", method=method, readout=readout, layer=1)
        first = rows[rows["block"] == 0].sort_values("change").iloc[0]
        assert first["head"] == 2 and first["p_max"] < 0.05 and first["upper"] < 0
    again = AblationTable.load(tmp_path / "out")
    assert set(again.rows["held_constant"]) == {"letters"}
    assert "with letters of the words held constant" in again.verdict()
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Held constant, so that what is linear in it counts for no" in report
    assert again.manifest["plan"]["hold_constant"] == ["length"]


def test_what_cannot_be_held_constant_is_refused(words, model):
    dataset = recorded(words, np.eye(N), noise=1.0, n_people=1)
    held = dataclasses.replace(QUICK, hold_constant=("length", "position"))
    with pytest.raises(ValueError, match="procrustes has no way to hold .* constant: leave it out"):
        run_ablation(dataset, [model], plan=held, scoring=Scoring(methods=("procrustes",)))
    with pytest.raises(ValueError, match="unknown hold_constant='colour'; known: position"):
        Ablation(hold_constant=("colour",))
    with pytest.raises(ValueError, match="estimate=gradient holds nothing constant: leave it out"):
        Ablation(hold_constant=("length",), estimate="gradient")
    alone = Stimulus(tuple("abcdefghij"))
    with pytest.raises(ValueError, match="nothing is left to be held constant: .*position_in_text"):
        held_features(alone, ("position", "length"), lower=False)
    apart = Stimulus(("a", "bb", "ccc", "dddd"))
    notes = held_features(apart, ("position", "length"), lower=False).notes
    assert "Not held constant: position_in_text: not known for these words." in notes
    assert held_features(apart, ("length",), lower=False).notes == ()  # nothing else was asked for
