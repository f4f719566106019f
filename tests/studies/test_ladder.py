"""The walk between the protocols: every field once, and smooth noise that falls with its folds."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from recordings import make_embeddings, make_responses, planted_study

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.ladder import report as ladder_report
from brainalign_jax.studies.ladder.ladder import START, STEPS, ladder_steps, run_ladder
from brainalign_jax.study.evidence import nulls
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.workbench import Workbench


@pytest.mark.parametrize(("timed", "grouped"), [(True, True), (False, True), (False, False)])
def test_the_walk_ends_at_the_audited_protocol(timed, grouped):
    steps = ladder_steps(timed=timed, grouped=grouped)
    audited = protocol("audited", timed=timed, grouped=grouped)
    assert steps[0].protocol == protocol("paper")
    assert steps[-1].protocol.fields() | {"name": "audited"} == audited.fields()
    for before, step in zip(steps, steps[1:], strict=False):
        old, new = before.protocol.fields(), step.protocol.fields()
        assert {f for f in new if new[f] != old[f]} - {"name"} == set(step.changed)


def test_every_step_has_a_label():
    assert list(ladder_report.LABELS) == [START, *STEPS]


def test_fixed_fields_are_never_walked_and_bad_steps_are_named():
    steps = ladder_steps(timed=True, grouped=False, names=["csls_k", "folds"], csls_k=10)
    assert [step.name for step in steps] == ["paper", "folds"]
    assert {step.protocol.csls_k for step in steps} == {10}
    with pytest.raises(ValueError, match="unknown step 'fold'; .*folds"):
        ladder_steps(timed=True, grouped=False, names=["fold"])
    with pytest.raises(ValueError, match="no step is left"):
        ladder_steps(timed=True, grouped=False, names=["csls_k"], csls_k=10)


@pytest.fixture(scope="module")
def smooth_story(tmp_path_factory):
    """(recordings of smooth noise, vectors that share a sentence): nothing in common but smoothness."""
    rng = np.random.default_rng(3)
    n_tokens, n_types, width = 480, 200, 24
    frequency = 1 / np.arange(1, n_types + 1)
    tokens = rng.choice(n_types, n_tokens, p=frequency / frequency.sum())
    story = Stimulus.from_words(
        [f"word{i}" for i in tokens], onsets=np.arange(n_tokens) * 0.5, run=np.zeros(n_tokens, int)
    )
    blur = np.exp(-0.5 * ((np.arange(n_tokens)[:, None] - np.arange(n_tokens)) / 4) ** 2)
    sentences = rng.standard_normal((n_tokens // 12, width))[np.arange(n_tokens) // 12]
    occurrences = rng.standard_normal((n_types, width))[tokens] + sentences
    vocabulary, token_to_type = story.types()
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    lines = [
        " ".join([word, *(f"{x:.5f}" for x in occurrences[token_to_type == i].mean(axis=0))])
        for i, word in enumerate(vocabulary)
    ]
    path.write_text("\n".join(lines) + "\n")
    noise = [
        make_responses(story, blur @ rng.standard_normal((n_tokens, 32)), subject=f"N{i}")
        for i in range(3)
    ]
    by_name = {person.subject: person for person in noise}
    return Dataset("smooth_noise", tuple(by_name), story, by_name.__getitem__), f"static:{path}"


def walk(smooth_story, output, null):
    dataset, model = smooth_story
    return run_ladder(
        dataset,
        [model],
        output,
        methods=("procrustes",),
        steps=("folds", "csls_k"),
        n_nulls=6,
        null=null,
        n_bootstraps=300,
        progress=False,
    )


def test_smooth_noise_falls_at_the_folds_and_its_null_with_it(smooth_story, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    walked = walk(smooth_story, "out", None)
    rows = walked.rows.set_index("name")
    assert list(rows.index) == ["paper", "folds", "csls_k"]
    assert rows.loc["paper", "score"] > 1.5 * rows.loc["paper", "chance"]
    assert rows["score"].diff().idxmin() == "folds"
    assert rows["null_mean"].diff().idxmin() == "folds"
    assert (rows["lower"] < rows["score"]).all() and (rows["score"] < rows["upper"]).all()
    assert "(folds)" in walked.sentences[0] and "a recording without" in walked.sentences[0]
    saved = pd.read_parquet(tmp_path / "out" / "ladder.parquet")
    assert list(saved["folds"]) == ["shuffled_types", "contiguous", "contiguous"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Which choice makes the score?" in page and "http" not in page
    assert (tmp_path / "out" / "ladder.png").stat().st_size > 1000

    def refuse(*args, **options):
        raise AssertionError("nothing is left to compute")

    monkeypatch.setattr(Workbench, "job", refuse)
    monkeypatch.setattr(nulls, "_scores", refuse, raising=False)
    monkeypatch.chdir("/")
    again = walk(smooth_story, tmp_path / "out", None)
    pd.testing.assert_frame_equal(again.rows, walked.rows)


@pytest.mark.parametrize("planted", [True, False])
def test_the_slope_on_model_size_stands_at_every_step(tmp_path, planted):
    responses, model = planted_study(n_layers=2, n_subjects=3)
    words, rng = responses[0].stimulus, np.random.default_rng(1)
    models = []
    for place, noise in enumerate((4.0, 2.0, 0.0)):  # the larger, the nearer to the brain
        vectors = planted * np.asarray(model.values[1:]) + (
            noise if planted else 1.0
        ) * rng.standard_normal((1, *model.values.shape[1:]))
        sized = make_embeddings(words, vectors, name=f"model{place}")
        models.append(dataclasses.replace(sized, meta=sized.meta | {"n_params": 10 ** (6 + place)}))
    loaded = {own.subject: own for own in responses}
    walked = run_ladder(
        Dataset("planted", tuple(loaded), words, loaded.__getitem__),
        models,
        tmp_path,
        methods=("procrustes",),
        steps=("candidate_scaling", "layer"),
        fixed={"csls_k": 5},
        n_nulls=0,
        n_bootstraps=200,
        progress=False,
    )
    slopes = walked.slopes[
        (walked.slopes["scope"] == "across") & (walked.slopes["quantity"] == "score")
    ]
    assert list(slopes["name"]) == list(walked.rows["name"].unique()) and len(slopes) > 1
    assert (slopes["n_models"] == 3).all()
    assert ((slopes["lower"] > 0.1) == planted).all()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "scaling.parquet"), walked.slopes)
    assert "per tenfold parameters (3 models) the score changes by" in walked.sentences[-1]
    assert "Slopes on model size" in (tmp_path / "report.html").read_text()


def made_up(scores, null_means, half):
    names = ["paper", "folds", "csls_k"]
    return pd.DataFrame(
        {
            "step": range(3), "name": names, "model": "m", "method": "ridge", "k": 10, "p": 0.5,
            "score": scores, "null_mean": null_means, "chance": 0.1,
        }
    ).assign(lower=lambda x: x["score"] - half, upper=lambda x: x["score"] + half)  # fmt: skip


def test_everything_on_the_page_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    rows = made_up([0.4, 0.2, 0.15], [0.1, 0.1, 0.1], 0.01)
    rows = rows.assign(
        model=evil, method=evil, changed=evil, layer=1, n_subjects=2, n_draws=5, null_lower=0.05,
        null_upper=0.2,
    )  # fmt: skip
    dataset = Dataset(evil, ("S1",), Stimulus.from_words(["a", "b"]), lambda subject: None)
    ladder_report.write(rows, tmp_path, dataset=dataset, command=evil)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<script") == 1 and page.count("&lt;script&gt;") >= 14


def test_the_sentence_names_the_step_where_the_score_above_the_null_falls_most():
    (text,) = ladder_report.sentences(made_up([0.4, 0.2, 0.15], [0.1, 0.1, 0.1], 0.01))
    assert 'above its null falls most at the step "audited folds" (folds)' in text
    assert "from 0.300 to 0.100" in text
    (text,) = ladder_report.sentences(made_up([0.4, 0.2, 0.15], [0.4, 0.2, 0.15], 0.01))
    assert "no step lowers P@10 above its null" in text and "(folds)" in text
    (text,) = ladder_report.sentences(made_up([0.4, 0.2, 0.15], [0.4, 0.2, 0.15], 0.3))
    assert "from 0.400 to 0.200 (within the scores' uncertainty)" in text
    (text,) = ladder_report.sentences(made_up([0.2, 0.3, 0.4], [0.1, 0.1, 0.1], 0.01))
    assert "no step lowers P@10." in text
