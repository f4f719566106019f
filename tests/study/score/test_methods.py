"""Measures of users' own, entered by `ba.register_method` and asked for by name."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from recordings import make_embeddings

import brainalign_jax as ba
from brainalign_jax.study import registry
from brainalign_jax.study.score.sweep import score


@pytest.fixture(autouse=True)
def known():
    """What is registered here is forgotten again."""
    before = dict(registry.METHODS)
    yield
    registry.METHODS.clear()
    registry.METHODS.update(before)


def rotation(responses, vectors, weights):
    """The orthogonal map of Procrustes, as a user would write it."""
    covariance = (responses * weights[:, None]).T @ vectors
    left, singular, right = jnp.linalg.svd(covariance, full_matrices=False)
    return (left * (singular > 1e-5 * singular[0])) @ right


def scored(words, planted, methods, **options):
    vectors, responses = planted
    chosen = ba.Scoring(methods=methods, protocol=ba.protocol("audited", timed=False), ks=(1, 10))
    return score("planted", responses, make_embeddings(words, vectors), chosen, **options)


def test_a_function_decodes_as_the_built_in_method_of_the_same_map(words, planted):
    ba.register_method("rotation")(rotation)
    ranks = scored(words, planted, ("rotation", "procrustes")).ranks
    by_method = dict(iter(ranks.groupby("method")))
    assert len(by_method["rotation"]) == len(by_method["procrustes"]) > 0
    for column in ("layer", "fold", "type", "rank_csls", "rank_nn"):
        np.testing.assert_array_equal(
            by_method["rotation"][column], by_method["procrustes"][column], err_msg=column
        )


@pytest.mark.parametrize("timed", [False, True])
def test_it_has_the_evidence_of_the_others(words, dataset, planted, tmp_path, timed):
    ba.register_method("rotation")(rotation)
    vectors, responses = planted
    if timed:
        stimulus = ba.Stimulus.from_words(words.words, onsets=30.0 * np.arange(60))
        by_name = {
            recording.subject: ba.WordResponses(recording.subject, recording.values, stimulus)
            for recording in responses
        }
        dataset = ba.Dataset("timed", tuple(by_name), stimulus, by_name.__getitem__)
    for layer, level in ((1, "real"), (2, "chance")):
        lines = [
            f"{word} " + " ".join(f"{x:.6f}" for x in vector)
            for word, vector in zip(words.words, vectors[layer], strict=True)
        ]
        path = tmp_path / f"layer{layer}.txt"
        path.write_text("\n".join(lines))
        table = ba.run_study(
            dataset,
            [f"static:{path}"],
            ba.Scoring(methods=("rotation",), ks=(1, 10)),
            tmp_path / f"out{layer}",
            evidence=ba.EvidencePlan(n_nulls=39, controls=(), n_bootstraps=200),
            progress=False,
        )
        assert set(table.extras["nulls"]["method"]) == {"rotation"}
        p = table.extras["evidence"].set_index("model")["p"].iloc[0]
        assert (p <= 0.025) == (level == "real"), p
        assert "rotation" in table.verdict()
        assert "rotation" in (tmp_path / f"out{layer}" / "report.html").read_text("utf-8")


def test_words_that_are_not_trained_on_cannot_be_learnt_from(words, planted):
    seen = []

    @ba.register_method("forgetful")
    def forgetful(responses, vectors, weights):
        seen.append((responses.shape, vectors.shape, weights.shape))
        # It leaves the weights out, and learns from nothing but trained words all the same.
        return responses.T @ vectors

    @ba.register_method("careful")
    def careful(responses, vectors, weights):
        trained = (weights > 0)[:, None]
        return (responses * trained).T @ (vectors * trained)

    ranks = scored(words, planted, ("forgetful", "careful")).ranks
    by_method = {name: part["rank_csls"].to_numpy() for name, part in ranks.groupby("method")}
    np.testing.assert_array_equal(by_method["forgetful"], by_method["careful"])
    assert seen[-1] == ((60, 20), (60, 12), (60,))


def test_what_is_kept_is_that_of_the_same_function(words, planted, tmp_path):
    def computed(rows):
        calls = []

        def counted(responses, vectors, weights):
            calls.append(1)
            return responses.T @ vectors[:, :rows].repeat(12 // rows, axis=1)

        return counted, calls

    tables = []
    for rows in (12, 12, 6):  # the text is the same, what it computes is not
        registry.METHODS.pop("own", None)
        function, calls = computed(rows)
        ba.register_method("own")(function)
        registry.identity_of("own")  # traces it, too
        calls.clear()
        tables.append(scored(words, planted, ("own",), cells=tmp_path).rows["value"].to_numpy())
        assert bool(calls) == (len(tables) != 2)
    np.testing.assert_array_equal(tables[0], tables[1])
    assert (tables[0] != tables[2]).any()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda r, v, w: r @ r.T, r"an array of shape \(60, 60\).*of shape \(20, 12\)"),
        (lambda r, v, w: None, "the method 'own' gives NoneType; its function must return the map"),
        (lambda r, v, w: (r.T @ v, 0), "gives tuple"),
    ],
)
def test_what_is_no_map_is_refused(words, planted, returned, message):
    ba.register_method("own")(returned)
    with pytest.raises(ValueError, match=message):
        scored(words, planted, ("own",))


def test_names(words):
    for name in ("two words", "", "1st", "a-b"):
        with pytest.raises(ValueError, match="is no name of a method"):
            ba.register_method(name)
    for name in registry.BUILT_IN:
        with pytest.raises(ValueError, match=f"{name!r} is taken by"):
            ba.register_method(name)(rotation)
    with pytest.raises(TypeError, match="'own' is a int: register a function or a class"):
        ba.register_method("own")(3)
    ba.register_method("own")(rotation)
    ba.register_method("own")(rotation)  # a notebook's cell run again
    with pytest.raises(ValueError, match=r"'own' is taken by .*rotation; register another name"):
        ba.register_method("own")(lambda responses, vectors, weights: responses.T @ vectors)
    with pytest.raises(ValueError, match=r"unknown method 'owm'.*own"):
        ba.Scoring(methods=("owm",))


def test_every_built_in_method_is_entered_where_it_is_written():
    folder = Path(registry.__file__).parent / "score" / "methods"
    entered = [
        name
        for path in sorted(folder.glob("*.py"))
        for name in re.findall(r'^@register_method\("(\w+)"\)', path.read_text("utf-8"), re.M)
    ]
    assert sorted(entered) == sorted(registry.DEFAULT)
