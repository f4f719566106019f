"""Time courses: planted windows and layers, noise, plain studies and loops beside them, bad input."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

import brainalign_jax as ba
from brainalign_jax import cli
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.readout import EpochedResponses, Window
from brainalign_jax.studies.options import TimeCourse
from brainalign_jax.studies.timecourse import (
    TimeCourseTable,
    encoding,
    inference,
    latency,
    run_timecourse,
    similarity,
    timecourse,
    verdicts,
    windows,
)
from brainalign_jax.studies.timecourse.decoding import WindowScores
from brainalign_jax.studies.timecourse.windows import recording_of
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence.draws import Draw, draw_nulls
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.report.judged import Judged

N, CHANNELS, WIDTH, N_LAYERS = 60, 6, 5, 4
TIMES = -0.1 + 0.025 * np.arange(20)
PLAN = TimeCourse(window=0.1, step=0.1, n_nulls=39, n_bootstraps=200, n_flips=0, hold_alpha=True)
FOLDS = ba.Scoring(protocol=ba.protocol("audited", timed=False, n_folds=4, n_inner_folds=3))
START = {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.3}  # layer -> where its window begins


def words(*, timed=False):
    names = [f"word{number}" for number in range(N)]
    return (
        ba.Stimulus(tuple(names), onsets=0.4 * np.arange(N)) if timed else ba.Stimulus(tuple(names))
    )


def vectors(seed=0):
    return np.random.default_rng(seed).standard_normal((N_LAYERS, N, WIDTH)).astype(np.float32)


def model(values=None):
    values = vectors() if values is None else values
    types = words().types()[0]
    return ba.Embeddings("planted", types, values, None, {"family": "static"})


def epochs_of(name, stimulus, planted, *, noise=0.5, seed=0, n_channels=CHANNELS):
    """Epochs in which layers are in their windows, mapped by weights of the person's own."""
    rng = np.random.default_rng((seed, ord(name[-1])))
    values = noise * rng.standard_normal((N, n_channels, len(TIMES)))
    for layer in planted:
        inside = (START[layer] - 1e-6 <= TIMES) & (START[layer] + 0.1 - 1e-6 > TIMES)
        signal = vectors()[layer] @ rng.standard_normal((WIDTH, n_channels))
        values[:, :, inside] += signal[:, :, None]
    channels = tuple(f"E{number}" for number in range(n_channels))
    return EpochedResponses(name, values, TIMES, stimulus, channels)


def dataset_of(*people):
    by_name = {person.subject: person for person in people}
    stimulus = people[0].stimulus
    load = lambda subject: by_name[subject].mean()  # noqa: E731
    return Dataset("simulated", tuple(by_name), stimulus, load, epochs=by_name.__getitem__)


def two_people(planted, *, timed=False, **options):
    stimulus = words(timed=timed)
    return dataset_of(*(epochs_of(name, stimulus, planted, **options) for name in ("S1", "S2")))


@pytest.fixture(scope="module")
def successive(tmp_path_factory):
    """(folder, table) of a study in which every layer has a window of its own."""
    folder = tmp_path_factory.mktemp("timecourse")
    plan = replace(PLAN, methods=("ridge", "rsa", "encoding"), generalise_time=True)
    options = dict(plan=plan, scoring=FOLDS, progress=False)
    return folder, run_timecourse(two_people(START), [model()], folder, **options)


def test_each_layer_is_found_in_its_window_and_nowhere_else(successive):
    _, table = successive
    rows = table.rows[(table.rows["subject"] == "group") & table.rows["p_max"].notna()]
    assert set(rows["method"]) == {"ridge", "rsa", "encoding"}
    inside = np.isclose(rows["window_start"], rows["layer"].map(START))
    assert (rows.loc[inside, "p_max"] <= 0.025 + 1e-9).all()
    assert (rows.loc[~inside, "p_max"] > 0.05).mean() > 0.95
    assert inside.sum() == 3 * N_LAYERS and (rows["time"] > rows["window_start"]).all()
    peaks = table.peaks[table.peaks["method"] == "ridge"]
    np.testing.assert_allclose(peaks["latency"], [0.05, 0.15, 0.25, 0.35])
    assert (peaks["over"] == "words").all() and (peaks["lower"] <= peaks["latency"]).all()
    order = table.manifest["order"]["planted, ridge"]
    assert order["rho"] == 1 and order["follows"] == "later"
    said = "Yes. planted, ridge: found are layer 0 from 0.000 to 0.100 s; layer 1 from 0.100 to 0.200 s;"
    assert table.verdict().startswith(said)
    assert "Layer and latency correlate by 1.000 (Spearman, 4 layers), without" in table.verdict()
    assert "later layers peak later (Spearman 1.000" in table.verdict()


def test_a_map_of_one_window_fails_in_the_window_of_another_layer(successive):
    _, table = successive
    own = table.maps[table.maps["subject"] == "S1"]
    layer = own["layer"].iloc[0]
    place = own["fitted_start"].sub(START[layer]).abs() < 1e-6
    same = own["window_start"].sub(START[layer]).abs() < 1e-6
    assert own.loc[place & same, "value"].item() > 0.9
    assert own.loc[place & ~same, "value"].max() < 0.75
    rows = table.rows[(table.rows["method"] == "ridge") & (table.rows["subject"] == "S1")]
    rows = rows[(rows["layer"] == layer) & (rows["metric"] == "rank_accuracy")]
    diagonal = own[np.isclose(own["fitted_start"], own["window_start"])]
    np.testing.assert_allclose(diagonal["value"], rows["value"], atol=2e-3)


def test_it_is_saved_loaded_and_shown(successive):
    folder, table = successive
    loaded = TimeCourseTable.load(folder)
    for name in ("rows", "peaks", "maps"):
        assert getattr(loaded, name).equals(getattr(table, name))
    assert loaded.verdict() == table.verdict()
    page = (folder / "report.html").read_text("utf-8")
    assert "Is a layer there, and when?" in page and "Peaks" in page and "None" not in page
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"time_by_layer_1.png", "time_course_3.png", "time_by_time_1.png"} <= figures


def test_a_penalty_is_said_to_be_held_where_it_is(successive):
    """In a text ridge chooses it anew in each draw, whatever --hold_alpha says."""
    _, table = successive
    assert table.manifest["null"] == "items" and table.manifest["plan"]["hold_alpha"]
    assert "Ridge (unless folds fit" in timecourse.report._how(table)
    text = replace(table, manifest={**table.manifest, "null": "shift"})
    assert "Encoding keeps in the draws the penalty" in timecourse.report._how(text)


def test_a_window_scores_as_a_plain_study_of_its_mean(successive):
    _, table = successive
    people = two_people(START)
    protocol = table.manifest["protocol"]
    window = Window(0.2, 0.3)

    def load(subject):
        return people.epochs(subject).mean(window)

    plain = Dataset("plain", people.subjects, people.stimulus, load)
    scoring = ba.Scoring(
        methods=("ridge", "rsa"),
        protocol=Protocol(**{**protocol, "alphas": tuple(protocol["alphas"])}),
        ks=(10,),
    )
    rows = ba.run_study(plain, [model()], scoring, evidence=None, progress=False).rows
    own = table.rows[table.rows["window_start"].sub(window.start).abs() < 1e-6]
    compared = 0
    for metric, method in (("rank_accuracy", "ridge"), ("precision_csls", "ridge"), ("rsa", "rsa")):
        for subject in people.subjects:
            wanted = dict(metric=metric, method=method, subject=subject)
            left, right = (
                part[(part[list(wanted)] == list(wanted.values())).all(axis=1)]
                for part in (own, rows[rows["fold"] == -1])
            )
            both = left.merge(right, on=["layer", "k"], suffixes=("", "_plain"))
            np.testing.assert_allclose(both["value"], both["value_plain"], atol=1e-6)
            compared += len(both)
    assert compared == 3 * 2 * N_LAYERS


def test_encoding_is_ridge_and_a_correlation_channel_by_channel():
    person = epochs_of("S1", words(), [1])
    recording = recording_of(person, [Window(0.1, 0.2)], person)
    protocol = replace(FOLDS.protocol, alphas=(0.3,), layer_selection="test")
    scoring = replace(FOLDS, protocol=protocol)
    scored = encoding.encode_windows(
        recording,
        person.stimulus,
        model(),
        scoring,
        None,
        computation=Computation(),
    )
    _, groups = person.stimulus.types()
    folds = encoding.outer_folds(
        person.stimulus, groups, np.ones(N, bool), protocol, seed=scoring.seed
    )
    y = recording.values[0].astype(float)
    for layer in range(N_LAYERS):
        x, scores = vectors()[layer].astype(float), []
        for train, test in zip(folds.train, folds.test, strict=True):
            about = x - x[train].mean(axis=0)
            gram = about[train].T @ about[train]
            penalty = 0.3 * np.trace(gram) / train.sum() * np.eye(WIDTH)
            target = y - y[train].mean(axis=0)
            weight = np.linalg.solve(gram + penalty, about[train].T @ target[train])
            predicted = about[test] @ weight
            r = [np.corrcoef(predicted[:, c], target[test, c])[0, 1] for c in range(CHANNELS)]
            scores += [np.mean(r)] * test.sum()
        np.testing.assert_allclose(scored.values[0, layer], np.mean(scores), atol=1e-5)


def test_responses_move_as_the_vectors_are_exchanged():
    draw = Draw(types=np.array([2, 0, 1]))
    token_to_type = np.array([0, 1, 1, 2, -1])
    eligible = np.array([True, True, True, True, False])
    # Type 0 takes the vector of type 2: the tokens of type 2 take the response of type 0.
    assert encoding.moved(draw, token_to_type, eligible).tolist() == [1, 3, 3, 0, 4]
    rows = np.array([1, 0, 2, 3, 4])
    assert encoding.moved(Draw(rows=rows), token_to_type, eligible) is rows


def test_people_who_lack_different_words_share_their_draws():
    stimulus = words(timed=True)
    _, groups = stimulus.types()
    lacking = {0: [], 1: [3, 20], 2: [5, 41]}
    orders = []
    for rows in lacking.values():
        eligible = ~np.isin(np.arange(N), rows)
        options = dict(seed=0, among=np.ones(N, bool))
        draws = draw_nulls("shift", stimulus, eligible, groups, 30, **options)
        orders.append(np.stack([draw.rows for draw in draws]))
        assert (np.sort(orders[-1], axis=1) == np.arange(N)).all() and eligible[
            orders[-1][:, eligible]
        ].all()
    steps = (np.arange(N) - orders[0]) % N
    assert (steps == steps[:, :1]).all()
    for order in orders[1:]:
        assert ((order == orders[0]).mean(axis=1) >= 56 / 60).all()


def test_noise_is_not_found_and_few_draws_are_no_test():
    plan = replace(PLAN, methods=("rsa", "encoding"))
    table = run_timecourse(two_people([]), [model()], plan=plan, scoring=FOLDS, progress=False)
    assert [shown.answer for shown in verdicts(table)] == ["chance", "chance"]
    assert table.verdict().startswith("Not shown: no window is above what chance gives")
    for n_nulls in (0, 19):  # with 19 draws no p is below .05
        plan = replace(plan, n_nulls=n_nulls, methods=("rsa",))
        table = run_timecourse(two_people([1]), [model()], plan=plan, scoring=FOLDS, progress=False)
        assert [shown.answer for shown in verdicts(table)] == ["untested"]
        assert table.rows["p_max"].isna().all() == (n_nulls == 0)
    assert table.verdict().startswith("Not tested: fewer than 20 draws")


def test_the_best_of_several_models_is_corrected_for_that_choice():
    plan = replace(PLAN, methods=("rsa",))
    others = [replace(model(vectors(seed)), model=f"noise{seed}") for seed in (1, 2)]
    options = dict(plan=plan, scoring=FOLDS, progress=False)
    table = run_timecourse(two_people([1]), [*others, model()], **options)
    p_models = table.manifest["p_models"]
    assert list(p_models) == ["noise1, rsa", "noise2, rsa", "planted, rsa"]
    assert p_models["planted, rsa"] == 1 / 40 and p_models["noise1, rsa"] > 0.05
    assert table.verdict().startswith("Yes. planted, rsa: layer 1 found from 0.100 to 0.200 s")
    assert "Over all 3 models as well: p = 0.025." in table.verdict()
    unclear = {**table.manifest, "p_models": {**p_models, "planted, rsa": 0.2}}
    picked = replace(table, manifest=unclear)
    said = (
        "Not shown: no window is above what chance gives in the best of all models. planted, rsa: "
    )
    assert picked.verdict().startswith(said)
    assert timecourse.report.verdict.answer(picked)[0] == "chance"


def test_a_model_that_is_above_all_others_is_no_less_so_for_being_found_before_the_word(
    monkeypatch,
):
    """Of a model found after the onset only the choice among models may be what stands out."""
    shown = timecourse.report.verdict
    judged = [
        Judged("after", "rsa", "found", "after, rsa: found."),
        Judged("early", "rsa", "before", "early, rsa: found."),
    ]
    monkeypatch.setattr(shown, "verdicts", lambda table: judged)
    p_models = {"after, rsa": 0.2, "early, rsa": 0.01}
    facts = {"plan": {"methods": ["rsa"]}, "p_models": p_models}
    table = TimeCourseTable(None, facts)
    said = (
        "Yes, but before the word as well. early, rsa: found. Over all 2 models as well: p = 0.010."
    )
    assert shown.headline(table) == said
    p_models["after, rsa"] = 0.03
    assert shown.headline(table).startswith("Yes. after, rsa: found.")


def test_the_largest_of_all_models_finds_in_noise_no_more_than_it_should():
    rng = np.random.default_rng(0)
    least, alone = [], []
    for _ in range(300):
        models = []
        for _ in range(6):
            values, null = np.split(rng.standard_normal((40, 3, 2)), [1])
            models.append([WindowScores("rsa", (0, 1), values[0], null, 9, 0.0)])
        least.append(inference.p_over_models(models, shifts=False).min())
        alone.append(min(inference.p_over_models([people], shifts=False)[0] for people in models))
    assert 0.02 < np.mean(np.array(least) <= 0.05) < 0.09 < 0.2 < np.mean(np.array(alone) <= 0.05)
    models[2] = [models[2][0]._replace(values=models[2][0].values + 9)]
    assert np.argmin(inference.p_over_models(models, shifts=False)) == 2
    no_draws = [[person._replace(null=person.null[:0]) for person in people] for people in models]
    assert np.isnan(inference.p_over_models(no_draws, shifts=False)).all()


def test_who_lacks_words_is_compared_with_draws_of_the_same_rows_as_the_others():
    stimulus, generator = words(timed=True), np.random.default_rng(0)
    people = []
    for name in ("S1", "S2"):
        person, valid = epochs_of(name, stimulus, [1]), np.ones(N, bool)
        valid[generator.permutation(N)[:12]] = False
        people.append(replace(person, values=np.array(person.values), valid=valid))
    first = recording_of(people[0], [Window(0.1, 0.2)], people[0])
    either = people[0].valid | people[1].valid
    complete = windows.filled(first, either)
    assert (complete.valid == either).all() and not first.valid.all()
    own = first.responses[0].values[first.valid]
    np.testing.assert_array_equal(complete.responses[0].values[first.valid], own)
    lacking = either & ~first.valid
    expected = np.tile(own.mean(axis=0), (lacking.sum(), 1))
    np.testing.assert_allclose(complete.responses[0].values[lacking], expected, atol=1e-6)
    assert windows.filled(first, first.valid) is first
    plan = replace(PLAN, methods=("rsa", "encoding"))
    scoring = ba.Scoring(protocol=ba.protocol("audited", n_folds=4, n_inner_folds=3, purge=0.5))
    options = dict(plan=plan, scoring=scoring, progress=False)
    table = run_timecourse(dataset_of(*people), [model()], **options)
    assert [shown.answer for shown in verdicts(table)] == ["found", "found"]
    alone = run_timecourse(dataset_of(people[0]), [model()], **options)
    notes = [" ".join(each.manifest["notes"]) for each in (table, alone)]
    assert "2 of 2 people lack words that others have: p is of recordings" in notes[0]
    assert "lack words" not in notes[1]
    values = [part.rows[part.rows["subject"] == "S1"]["value"] for part in (table, alone)]
    np.testing.assert_allclose(*values, atol=1e-6)  # what is said of a person is of its own words
    isolated = dataset_of(*(replace(person, stimulus=words()) for person in people))
    plan = replace(PLAN, methods=("ridge",), window=0.1, step=0.2)
    table = run_timecourse(isolated, [model()], plan=plan, scoring=FOLDS, progress=False)
    assert verdicts(table)[0].answer == "found" and (table.peaks["found_from"].notna().sum() == 1)


def test_which_words_are_lacking_says_nothing_to_dissimilarities():
    """The mean in their place made them alike: noise went with a model in which they are of one kind."""
    stimulus, valid = words(), np.ones(N, bool)
    valid[:9] = False
    person = epochs_of("S1", stimulus, [])
    person = replace(person, values=np.array(person.values), valid=valid)
    own = recording_of(person, [Window(0.1, 0.2)], person)
    complete = windows.filled(own, np.ones(N, bool))
    known = np.triu(np.outer(valid, valid), 1)[np.triu_indices(N, 1)]
    for comparison, centred in (("spearman", rankdata), ("pearson", np.asarray)):
        scoring = ba.Scoring(protocol=replace(FOLDS.protocol, rdm_comparison=comparison))
        rdms = [
            similarity.brain_rdms(recording, stimulus, scoring, Computation()).rdms[0]
            for recording in (own, complete)
        ]
        np.testing.assert_array_equal(rdms[1][known], rdms[0])
        values = centred(rdms[1])
        np.testing.assert_allclose(values[~known], values.mean(), rtol=1e-6)


def test_in_a_text_the_purge_is_as_long_as_an_epoch():
    plan = replace(PLAN, methods=("rsa", "encoding"))
    protocol = ba.protocol("audited", n_folds=4, n_inner_folds=3, purge=0.1)
    scoring = ba.Scoring(protocol=protocol)
    data = two_people([1], timed=True)
    table = run_timecourse(data, [model()], plan=plan, scoring=scoring, progress=False)
    assert table.manifest["protocol"]["purge"] == 0.5
    assert any(
        "raised to the length of an epoch, 0.5 s" in note for note in table.manifest["notes"]
    )
    assert table.manifest["null"] == "shift"
    assert [shown.answer for shown in verdicts(table)] == ["found", "found"]


def test_channels_may_differ_between_people_but_there_is_no_ceiling_of_encoding():
    stimulus = words()
    people = [epochs_of("S1", stimulus, [1]), epochs_of("S2", stimulus, [1], n_channels=8)]
    plan = replace(PLAN, methods=("rsa", "encoding"), n_nulls=19)
    table = run_timecourse(dataset_of(*people), [model()], plan=plan, scoring=FOLDS, progress=False)
    group = table.rows[table.rows["subject"] == "group"]
    assert group.loc[group["method"] == "rsa", "ceiling"].notna().all()
    assert group.loc[group["method"] == "encoding", "ceiling"].isna().all()
    notes = " ".join(table.manifest["notes"])
    assert "encoding has no noise ceiling: " in notes and "channels" in notes


def test_latencies_and_orders_are_those_of_the_best_windows():
    middles = np.array([0.1, 0.2, 0.3, 0.4])
    group = np.eye(4)
    drawn = np.stack([group, group[:, ::-1]])
    best = latency.peaks(group, middles, drawn, "people", 0.9)
    np.testing.assert_allclose(best.latency, middles)
    assert (best.lower <= best.latency).all() and (best.upper >= best.latency).all()
    every = np.ones(4, bool)
    assert latency.layer_order(group, middles, group[None], every, 0.95).follows == "later"
    assert (
        latency.layer_order(group[::-1], middles, group[None, ::-1], every, 0.95).follows
        == "earlier"
    )
    assert latency.layer_order(group, middles, drawn, every, 0.95).follows == "no order"
    few = np.array([True, True, False, False])
    assert latency.layer_order(group, middles, drawn, few, 0.95).follows == "untested"
    spans = latency.span_of(np.array([1, 1, 0, 1], bool), middles - 0.05, middles + 0.05)
    np.testing.assert_allclose(spans, [(0.05, 0.25), (0.35, 0.45)])


def test_clusters_of_people_are_found_by_mne():
    pytest.importorskip("mne", reason="needs MNE-Python: pip install 'brainalign_jax[mne]'")
    values = 0.1 * np.random.default_rng(0).standard_normal((10, 8, 3))
    values[:, 2:5, 1] += 0.3
    p = inference.cluster_p(values, n_flips=199, seed=0)
    assert p.shape == (8, 3) and (p[2:5, 1] < 0.05).all() and (p[:, 0] > 0.05).any()


def test_without_mne_the_largest_statistic_stands_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "mne", None)
    assert inference.cluster_p(np.ones((6, 2, 2)), n_flips=9, seed=0) is None


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"window": 0.9}, "a window of 0.9 s is longer than the epoch, which is 0.5 s"),
        ({"window": 0.01}, "finer than the samples, which are 0.025 s apart"),
    ],
)
def test_windows_that_do_not_fit_are_refused(plan, message):
    with pytest.raises(ValueError, match=message):
        run_timecourse(two_people([]), [model()], plan=replace(PLAN, **plan), progress=False)


def test_runs_that_leave_draws_nothing_to_move_are_refused():
    every = np.ones(N, bool)
    names = words().words
    isolated = ba.Stimulus(names, run=np.repeat([0, 1, 2], 20).astype(np.int32))
    with pytest.raises(ValueError, match="no onsets and 3 runs, of which draws exchange four"):
        windows.check_draws(isolated, every, ("ridge", "rsa"))
    windows.check_draws(isolated, every, ("rsa",))
    run = np.repeat([0, 1], [57, 3]).astype(np.int32)
    text = ba.Stimulus(names, run=run, onsets=0.4 * np.arange(N))
    with pytest.raises(ValueError, match="run 1 has 3 words, too few to shift .*--n_nulls=0"):
        windows.check_draws(text, every, ("encoding",))
    valid = np.ones((2, N), bool)
    valid[1, 9:] = False
    data = two_people([])
    assert timecourse._fitting_k(data, valid, FOLDS, 10) == 9
    assert timecourse._fitting_k(data, valid[:1], FOLDS, 10) == 10


def test_resamples_that_fill_the_memory_are_refused_before_scoring():
    plan = replace(PLAN, n_bootstraps=1_000_000, step=0.025, window=0.025)
    data = two_people([])
    options = dict(scoring=FOLDS, progress=False)
    every = model(np.concatenate([vectors()] * 8))
    with pytest.raises(
        ValueError, match="n_bootstraps=1,000,000 of 20 windows and 32 layers takes"
    ):
        run_timecourse(data, [every], plan=plan, **options)
    sizes = dict(n_windows=40, n_layers=13, n_bootstraps=2000, n_people=30)
    inference.check_sizes(**sizes, n_nulls=1000)
    with pytest.raises(
        ValueError, match="n_nulls=100,000 .*: give a smaller n_nulls, a larger step"
    ):
        inference.check_sizes(**sizes, n_nulls=100_000)


def test_each_recording_is_read_once_and_again_only_where_memory_does_not_hold_all():
    people, reads = two_people([1]), []

    def read(subject):
        reads.append(subject)
        return people.epochs(subject)

    counted = replace(people, epochs=read)
    plan = replace(PLAN, methods=("ridge", "encoding"), n_nulls=0, generalise_time=True)
    table = run_timecourse(counted, [model()], plan=plan, scoring=FOLDS, progress=False)
    assert reads == ["S1", "S2"] and table.rows["ceiling"].notna().any()
    few = windows.Recordings(counted, [Window(0, 0.1)], people.epochs("S1"), most_bytes=2000)
    assert few.words().shape == (2, N) and few.every() is None
    assert few.of("S2").subject == "S2" and reads == ["S1", "S2", "S2", "S2"]


def test_the_purge_gap_holds_by_everybodys_onsets(tmp_path):
    stimulus = words(timed=True)
    later = np.cumsum(
        np.full(N, 0.402)
    )  # each word 2 ms later than in the first person, from the one before

    def written(name, onsets):
        person = epochs_of(name, stimulus, [])
        np.savez(
            tmp_path / f"{name}.npz",
            responses=person.values,
            times=TIMES,
            words=np.array(stimulus.words),
            **({} if onsets is None else {"onsets": onsets}),
        )

    written("S1", stimulus.onsets)
    purges = []
    for onsets in (stimulus.onsets + 7, later):
        written("S2", onsets)
        data = ba.open_dataset("epochs", tmp_path)
        scoring, notes = windows.scoring_over_time(data, None, data.epochs("S1"))
        purges.append(scoring.protocol.purge)
    assert purges == [10.0, 10.118]
    assert notes[0].startswith("The time between two words differs by up to 0.118 s between people")
    written("S2", later * 1.1)
    data = ba.open_dataset("epochs", tmp_path)
    with pytest.raises(ValueError, match="differs by up to 2.4898 s between people, more than an"):
        windows.scoring_over_time(data, None, data.epochs("S1"))
    written("S2", None)
    with pytest.raises(
        ValueError, match="S2.npz has no onsets and .*S1.npz has: give them for all"
    ):
        ba.open_dataset("epochs", tmp_path)


def test_recordings_without_a_time_axis_or_at_other_times_are_refused():
    person = epochs_of("S1", words(), [])
    plain = Dataset("plain", ("S1",), words(), lambda subject: person.mean())
    with pytest.raises(ValueError, match="the recordings of plain have no time axis"):
        run_timecourse(plain, [model()], progress=False)
    later = EpochedResponses("S2", person.values, TIMES + 1.0, words(), person.channels)
    with pytest.raises(
        ValueError, match="subject S2: the epoch is 0.9 to 1.375 s, that of S1 -0.1"
    ):
        run_timecourse(
            dataset_of(person, later), [model()], plan=PLAN, scoring=FOLDS, progress=False
        )
    twice = [model(), model(vectors(1))]
    with pytest.raises(ValueError, match="given twice: planted"):
        run_timecourse(dataset_of(person), twice, plan=PLAN, scoring=FOLDS, progress=False)
    with pytest.raises(ValueError, match="unknown method 'cka'; known: ridge"):
        TimeCourse(methods=("cka",))
    with pytest.raises(ValueError, match="generalise_time needs a method that decodes"):
        TimeCourse(methods=("rsa",), generalise_time=True)


def test_the_command_reads_runs_and_ends_with_a_status(tmp_path, capsys):
    person = epochs_of("S1", words(), [0])
    arrays = dict(responses=person.values, times=TIMES, words=np.array(person.stimulus.words))
    np.savez(tmp_path / "S1.npz", **arrays)
    lines = [
        f"{word} {' '.join(map(str, row))}"
        for word, row in zip(person.stimulus.words, vectors()[0], strict=True)
    ]
    (tmp_path / "vectors.txt").write_text("\n".join(lines) + "\n")
    asked = [
        "timecourse",
        "--dataset=epochs",
        f"--data_dir={tmp_path / 'S1.npz'}",
        f"--models=static:{tmp_path / 'vectors.txt'}",
        f"--output_dir={tmp_path / 'out'}",
        "--methods=rsa",
        "--step=0.1",
        "--n_nulls=39",
        "--progress=false",
    ]
    assert cli.main([*asked, "--window=0.1"]) == 0
    assert "Yes." in capsys.readouterr().out and (tmp_path / "out" / "report.html").is_file()
    assert cli.main([*asked, "--window=5"]) == 1
    assert "is longer than the epoch" in capsys.readouterr().err
    assert cli.main([*asked, "--methods=cka"]) == 2
