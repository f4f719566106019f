"""Contrastive maps as a study: ridge is the sweep's, interruptions leave no trace, no test word leaks."""

import dataclasses
import json
import shutil
import warnings

import jax
import numpy as np
import pytest
from recordings import make_embeddings, make_responses

from brainalign_jax.align import linalg, ridge
from brainalign_jax.align.retrieval.contrastive import Training
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.contrastive import maps as contrastive_maps
from brainalign_jax.studies.contrastive import training as contrastive_training
from brainalign_jax.studies.contrastive.checkpoints import Checkpoints, train
from brainalign_jax.studies.contrastive.maps import compare, score_subject
from brainalign_jax.studies.contrastive.training import Trial, read_words, select_alphas, train_maps
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.results import ResultTable
from brainalign_jax.study.score.sweep import Scoring, score_subjects

PROTOCOL = protocol("audited", timed=False, n_folds=3, n_inner_folds=2, csls_k=5)
SCORING = Scoring(("ridge",), PROTOCOL, (1, 10))
TRIALS = {"infonce": Trial(Training(n_steps=4, temperature=0.5, learning_rate=0.5))}


@pytest.fixture(scope="module")
def subject(words, planted):
    vectors, responses = planted
    return make_embeddings(words, vectors), responses[0]


@pytest.fixture(scope="module")
def problem(subject):
    """(words, alphas) of one subject."""
    words = read_words(subject[1], subject[0], SCORING)[1]
    return words, select_alphas(words, alphas=PROTOCOL.alphas)


@pytest.mark.parametrize("scaling", ["spread", "none"])
def test_ridge_scores_as_in_the_sweep(subject, scaling):
    embeddings, responses = subject
    chosen = dataclasses.replace(PROTOCOL, candidate_scaling=scaling)
    scoring = dataclasses.replace(SCORING, protocol=chosen)
    ours = score_subject("planted", responses, embeddings, scoring, {})
    sweep = score_subjects("planted", [responses], embeddings, scoring)
    sweep = sweep[(sweep["fold"] == -1) & (sweep["layer"] >= 0)]
    sweep = sweep[~sweep["metric"].isin(["pearson", "r2"])]
    ours = ours[ours["method"] == "ridge"]
    keys = ["layer", "metric", "k"]
    both = ours.merge(sweep, on=[*keys, "subject", "chance", "n_items"], validate="1:1")
    assert len(both) == len(sweep) == 15
    np.testing.assert_allclose(both["value_x"], both["value_y"], atol=1e-6)
    best = both[(both["metric"] == "rank_accuracy")].set_index("layer")["value_x"]
    assert best.idxmax() == 1 and best[1] > 0.8  # the planted layer


def test_the_map_of_ridge_predicts_what_ridge_predicts(problem):
    words, _ = problem
    weights = words.train[0]
    weight = contrastive_training.ridge_map(words.source, words.targets[1], weights, 0.5)
    factor = ridge.factor_primal(words.source, weights)
    alpha = 0.5 * factor.eigenvalues.sum() / weights.sum()
    expected = ridge.predict(factor, words.targets[1], alpha)
    mean = linalg.weighted_mean(words.source, weights)
    predicted = (words.source - mean) @ weight + linalg.weighted_mean(words.targets[1], weights)
    np.testing.assert_allclose(predicted, expected, atol=1e-4)


class Interrupted(Exception):
    pass


def test_an_interrupted_training_goes_on_and_ends_as_if_nothing_had_been(
    problem, tmp_path, monkeypatch
):
    words, alphas = problem
    trial = TRIALS["infonce"]
    whole = train_maps(words, alphas, trial, every=2)
    calls, advance = [], contrastive_training._advance

    def failing(*args, **kwargs):
        calls.append(kwargs["n_steps"])
        if len(calls) == 3:
            raise Interrupted
        return advance(*args, **kwargs)

    monkeypatch.setattr(contrastive_training, "_advance", failing)
    with pytest.raises(Interrupted):
        train_maps(words, alphas, trial, every=2, checkpoints=tmp_path)
    resumed = train_maps(words, alphas, trial, every=2, checkpoints=tmp_path)
    assert calls[:4] == [2, 2, 1, 1]  # the first two pieces were not made again
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert (whole.n_updates > 0).any()
    before = len(calls)
    train_maps(words, alphas, trial, every=2, checkpoints=tmp_path)
    assert len(calls) == before  # finished: nothing is made again
    with pytest.raises(Interrupted):  # of another training nothing is taken up
        calls[:] = [0, 0]
        train_maps(words, alphas * 2, trial, every=2, checkpoints=tmp_path)


def test_checkpoints_keep_the_newest_state_and_its_types(tmp_path, monkeypatch):
    state = {"weight": np.arange(6.0, dtype=np.float32).reshape(2, 3), "step": np.int32(3)}
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("there", "one")
    monkeypatch.chdir("/")
    assert checkpoints.restore(state) is None
    checkpoints.save(3, state)
    checkpoints.save(5, {"weight": state["weight"] + 1, "step": np.int32(5)})
    step, restored = checkpoints.restore(state)
    assert step == 5 and restored["step"] == 5 and restored["step"].dtype == np.int32
    np.testing.assert_array_equal(restored["weight"], state["weight"] + 1)
    assert (tmp_path / "there" / "one").is_dir()
    assert Checkpoints(tmp_path / "there", "two").restore(state) is None


def test_a_flipped_bit_gives_the_state_that_was_saved_or_none(tmp_path):
    """In every file of a checkpoint, at bytes drawn from all of it."""
    rng = np.random.default_rng(0)
    state = {"weight": rng.standard_normal((40, 30)).astype(np.float32), "step": np.int32(3)}
    Checkpoints(tmp_path, "whole").save(3, state)
    files = [f for f in sorted((tmp_path / "whole").rglob("*")) if f.is_file() and f.stat().st_size]
    n_refused = 0
    for number, file in enumerate(f for f in files for _ in range(4)):
        damaged = tmp_path / f"damaged{number}"
        shutil.copytree(tmp_path / "whole", damaged)
        there = damaged / file.relative_to(tmp_path / "whole")
        content = bytearray(there.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        there.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            restored = Checkpoints(tmp_path, damaged.name).restore(state)
        if restored is None:
            n_refused += 1
            assert "starting anew" in str(caught[-1].message)
        else:
            assert restored[0] == 3 and restored[1]["step"] == 3
            np.testing.assert_array_equal(restored[1]["weight"], state["weight"])
    assert n_refused > 0


def test_a_training_without_pieces_is_an_error():
    with pytest.raises(ValueError, match="every=0"):
        train(lambda: 0, lambda state, n: state + n, n_steps=3, every=0)


def test_test_words_decide_nothing(problem):
    """With other responses and vectors of the tested words the maps of their fold are the same."""
    words, alphas = problem
    rng = np.random.default_rng(0)
    tested = (words.train[0] == 0)[:, None]
    changed = words._replace(
        source=np.where(tested, 9 * rng.standard_normal(words.source.shape), words.source),
        targets=np.where(tested, 9 * rng.standard_normal(words.targets.shape), words.targets),
    )
    changed = jax.tree.map(lambda a, b: a.astype(b.dtype), changed, words)
    assert tested.sum() == 20
    chosen = select_alphas(changed, alphas=PROTOCOL.alphas)
    np.testing.assert_array_equal(chosen[:, 0], alphas[:, 0])
    trial = TRIALS["infonce"]
    trained, other = (train_maps(w, alphas, trial, every=2) for w in (words, changed))
    np.testing.assert_array_equal(trained.n_updates[:, 0], other.n_updates[:, 0])
    np.testing.assert_allclose(trained.maps[:, 0], other.maps[:, 0], atol=1e-5)
    assert np.abs(trained.maps[:, 1] - other.maps[:, 1]).max() > 0.01


def test_updates_are_those_of_the_least_mean_rank(problem):
    words, alphas = problem
    trained = train_maps(words, alphas, TRIALS["infonce"], every=5)
    assert trained.curve.shape == (3, 3, 5) and np.isfinite(trained.curve).all()
    np.testing.assert_array_equal(trained.n_updates, trained.curve.argmin(axis=2))


def test_repeated_words_are_an_error(planted):
    stimulus = Stimulus.from_words([f"word{i % 50}" for i in range(60)])
    embeddings = make_embeddings(stimulus, planted[0][:, :50])
    responses = make_responses(stimulus, planted[1][0].values)
    with pytest.raises(ValueError, match="60 responses to 50 words"):
        read_words(responses, embeddings, SCORING)


def test_a_comparison_is_written_and_taken_up_again(dataset, planted, tmp_path, monkeypatch):
    embeddings = make_embeddings(dataset.stimulus, planted[0])
    monkeypatch.setattr(contrastive_maps, "embed", lambda *a, **k: embeddings)
    monkeypatch.chdir(tmp_path)

    def run():
        return contrastive_maps.run_comparison(
            dataset, "model", SCORING, TRIALS, ".", every=2, command="c", progress=False
        )

    table = run()
    assert not any((tmp_path / "checkpoints").glob("*"))
    monkeypatch.setattr(contrastive_maps, "train_maps", None)  # finished cells are read
    again = run()
    np.testing.assert_array_equal(again.rows["value"], table.rows["value"])
    saved = ResultTable.load(tmp_path)
    assert set(saved.rows["subject"]) == {"S0", "S1", "group"}
    lines = json.loads((tmp_path / "manifest.json").read_text())["comparison"]
    line = next(x for x in lines if x["method"] == "infonce" and x["layer"] == 1)
    values = table.rows[(table.rows["k"] == 10) & (table.rows["layer"] == 1)]
    values = values[values["metric"] == "precision_csls"]
    by = values.set_index(["method", "subject"])["value"]
    differences = [by["infonce", s] - by["ridge", s] for s in ("S0", "S1")]
    assert line["difference"] == pytest.approx(np.mean(differences))
    assert line["value"] == pytest.approx(by["infonce", "group"])
    assert line["interval"][0] <= line["difference"] <= line["interval"][1]
    assert line["n_subjects"] == 2 and line["mean_updates"] >= 0
    best = next(x for x in lines if x["method"] == "infonce" and x["layer"] == "best")
    assert best["value"] == max(x["value"] for x in lines if x["method"] == "infonce")
    assert "infonce" in contrastive_maps.text_comparison(lines, k=10)
    assert compare(table.rows.assign(n_updates=0.0), k=1)[0]["n_subjects"] == 2
