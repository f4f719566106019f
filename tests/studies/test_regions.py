import json
import re
from types import SimpleNamespace

import numpy as np
import oracles
import pandas as pd
import pytest
from scipy import stats
from scipy.signal import lfilter
from simulate.alice import simulate_alice
from sklearn.linear_model import LinearRegression, Ridge

from brainalign_jax.neural.readers.stories import alice_files
from brainalign_jax.neural.readout.encoding import design_matrix
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.regions import scores as region_scores
from brainalign_jax.studies.regions.encoding import (
    Encoding,
    nuisance_features,
    run_region_encoding,
    score_regions,
)
from brainalign_jax.studies.regions.recordings import RegionRecordings, alice_regions
from brainalign_jax.studies.regions.report import write_region_report
from brainalign_jax.studies.regions.table import RegionTable, effect_rows
from brainalign_jax.studies.regions.verdict import answer, headline, verdicts
from brainalign_jax.study.score import volumes

FEW = Encoding(
    n_folds=4, n_inner=3, purge=10.0, n_shifts=39, alphas=(1.0, 10.0, 100.0), n_bootstrap=500
)
N, S, TR = 160, 6, 2.0


def zscored(values):
    return (values - values.mean(axis=0)) / values.std(axis=0)


def noise(rng, *shape):
    return lfilter([1], [1, -0.5], rng.standard_normal((shape[0] + 50, *shape[1:])), axis=0)[50:]


def simulated(seed=0, *, strength=0.8):
    """Words at a changing pace; regions driven by the rate, by a model's layer 1, and by nothing."""
    rng = np.random.default_rng(seed)
    times = 20 + TR * np.arange(N)
    pace = np.exp(np.cumsum(noise(rng, 900) * 0.03))
    onsets = 10 + np.cumsum(0.35 * pace / pace.mean())
    onsets = onsets[onsets < times[-1]]
    words = tuple(f"{'w' * (1 + i % 5)}{i % 97}" for i in range(len(onsets)))
    stimulus = Stimulus(words, onsets=onsets, durations=np.full(len(onsets), 0.2))
    vectors = rng.standard_normal((2, len(words), 6))
    layers = [design_matrix(onsets, layer, times, method="hrf") for layer in vectors]
    twin = [
        design_matrix(onsets, rng.standard_normal((len(words), 6)), times, method="hrf")
        for _ in range(2)
    ]
    rate = design_matrix(onsets, np.ones((len(words), 1)), times, method="hrf")
    signals = np.column_stack(
        [zscored(rate[:, 0]), zscored(zscored(layers[1]) @ rng.standard_normal(6)), np.zeros(N)]
    )
    bold = zscored(noise(rng, N, S, 3)) + strength * signals[:, None, :]
    loud = zscored(noise(rng, N))
    recordings = RegionRecordings(
        "toy",
        tuple(f"S{i}" for i in range(S)),
        bold,
        times,
        np.zeros(N, int),
        ("paced", "spoken", "idle"),
        ("10mm",) * 3,
        stimulus,
        {"sound_power": loud},
        {"spoken": "the spoken region"},
    )
    return SimpleNamespace(recordings=recordings, layers=layers, twin=twin)


@pytest.fixture(scope="module")
def scored_regions():
    made = simulated()
    features = {"model": made.layers, "untrained:model": made.twin}
    return made, score_regions(made.recordings, features, encoding=FEW)


def test_what_the_rate_drives_does_not_survive_and_what_the_model_drives_does(scored_regions):
    _, table = scored_regions
    by_region = {judged.region: judged for judged in verdicts(table)}
    assert by_region["spoken"].survives and by_region["spoken"].survives_all
    assert not by_region["paced"].survives and not by_region["idle"].survives
    assert (
        "In the spoken region (spoken, 10mm) the language model adds to word rate and sound power"
        in (by_region["spoken"].text)
    )
    assert "more than its untrained twin" in by_region["spoken"].text
    assert "the language model adds nothing to word rate and sound power" in by_region["paced"].text
    assert headline(table).startswith(
        "10mm: beside word rate and sound power, the language model explains 1 of 3 regions (spoken)"
    )
    assert answer(table) == ("real", "Yes, in 1 of 3 regions: the spoken region")
    rate = table.group("r", nuisances="rate").loc["10mm"]
    assert rate.loc["paced", "value"] > 0.25 and rate.loc["paced", "p_max"] == 1 / 40
    # Words come at the rate's pace, so that the model alone scores in the paced region, too.
    assert rate.loc["idle", "p_max"] > 0.05
    chosen = table.group("unique_r", model="model", nuisances="rate+sound_power")["chosen"]
    assert chosen["10mm", "spoken"] == "1 1 1 1"
    twin = table.group("unique_r", model="untrained:model", nuisances="rate+sound_power")
    assert (twin["p_max"] > 0.05).all()


def test_the_table_is_whole_and_tidy(scored_regions):
    made, table = scored_regions
    rows = table.rows
    assert set(rows["subject"]) == {"group", *made.recordings.subjects}
    keys = ["part", "region", "subject", "model", "nuisances", "metric"]
    assert not rows.duplicated(keys).any() and np.isfinite(rows["value"]).all()
    group = rows[rows["subject"] == "group"]
    means = rows[rows["subject"] != "group"].groupby(keys[:2] + keys[3:])["value"].mean()
    both = group.set_index(keys[:2] + keys[3:])["value"]
    np.testing.assert_allclose(both, means.loc[both.index], atol=1e-12)
    tested = group[group["n_null"] > 0]
    assert (tested["n_null"] == 39).all() and (tested["p"] <= tested["p_max"] + 1e-12).all()
    assert ((group["low"] <= group["value"]) & (group["value"] <= group["high"])).all()
    few = "rate+sound_power"
    joint, alone, unique = (
        table.group(metric, model=model, nuisances=few)["value"]
        for metric, model in (("r", "model"), ("r", ""), ("unique_r", "model"))
    )
    np.testing.assert_allclose(joint - alone, unique, atol=1e-7)


def slow_scores(layers, nuisances, y, folds, lambdas, alphas):
    """(r [S], chosen candidates [F]) of one region's time courses y [N, S], by scikit-learn."""

    def predict(layer, train, lam, alpha, y):
        n, prediction = train.sum(), np.tile(y[train].mean(axis=0), (len(y), 1))
        left = layer
        if nuisances.shape[1]:
            z = (nuisances - nuisances[train].mean(axis=0)) / nuisances[train].std(axis=0)
            prediction = Ridge(alpha=lam * n).fit(z[train], y[train]).predict(z)
            left = layer - LinearRegression().fit(z[train], layer[train]).predict(z)
        if np.isinf(alpha):
            return prediction
        left = (left - left[train].mean(axis=0)) / left[train].std(axis=0)
        ridge = Ridge(alpha=alpha * (left[train] ** 2).sum() / n)
        own = ridge.fit(left[train], y[train])
        return prediction + own.predict(left) - own.intercept_

    r, chosen = [], []
    for fold, train in enumerate(folds.train):
        weighted = y / y[train].std(axis=0)
        candidates = [(x, lam, alpha) for x in layers for lam in lambdas for alpha in alphas]
        errors = []
        for candidate in candidates:
            error = 0
            for inner in range(len(folds.inner_train[fold])):
                test = folds.inner_rows[fold, inner][folds.inner_weights[fold, inner] > 0]
                x, lam, alpha = candidate
                guess = predict(x, folds.inner_train[fold, inner], lam, alpha, weighted)
                error += ((guess - weighted)[test] ** 2).sum()
            errors.append(error)
        chosen.append(int(np.argmin(errors)))
        x, lam, alpha = candidates[chosen[-1]]
        test = folds.test_rows[fold][folds.test_weights[fold] > 0]
        guess = predict(x, train, lam, alpha, y)[test]
        r.append(
            [
                np.corrcoef(a, b)[0, 1] if np.ptp(a) > 1e-9 else 0.0
                for a, b in zip(guess.T, y[test].T, strict=True)
            ]
        )
    return np.mean(r, axis=0), chosen


@pytest.mark.parametrize("with_nuisances", [False, True])
def test_scores_and_choices_are_those_of_a_slow_loop(with_nuisances):
    made = simulated(seed=3, strength=1.5)
    bold = made.recordings.bold
    folds = volumes.time_folds(
        made.recordings.times, made.recordings.run, n_folds=3, n_inner=2, purge=8.0
    )
    nuisances = np.zeros((N, 0))
    if with_nuisances:
        known = nuisance_features(made.recordings, FEW)
        nuisances = np.concatenate([known["rate"], known["sound_power"]], axis=1)
    lambdas, alphas = (0.1, 1.0), (0.3, 30.0, np.inf)
    turned = np.stack([np.arange(N), np.roll(np.arange(N), 41)])
    targets = region_scores.shifted(bold, turned)
    choices = region_scores.prepare(made.layers, nuisances, folds, lambdas, alphas)
    scores = region_scores.score(choices, folds, targets)
    lambdas = lambdas if with_nuisances else (0.0,)
    for shift, region in ((0, 1), (0, 0), (1, 1)):
        y = np.roll(bold[:, :, region], 41 * shift, axis=0)
        want, chosen = slow_scores(made.layers, nuisances, y, folds, lambdas, alphas)
        assert scores.chosen[:, shift, region].tolist() == chosen
        np.testing.assert_allclose(scores.correlation[shift, :, region], want, atol=1e-4)


def test_shifts_turn_every_run_in_itself():
    run = np.repeat([2, 5], [40, 30])
    times = np.r_[2.0 * np.arange(40), 2.0 * np.arange(30)]
    turned = volumes.shifted_rows(run, times, n_shifts=25, least=10.0, random_state=1)
    assert turned.shape == (26, 70) and (turned[0] == np.arange(70)).all()
    for row in turned[1:]:
        for part, size in ((row[:40], 40), (row[40:] - 40, 30)):
            step = part[0]
            assert 5 <= step <= size - 5
            np.testing.assert_array_equal(part, np.roll(np.arange(size), -step))
    of_run = volumes.shifted_rows(run[:40], times[:40], n_shifts=31, least=10.0)
    assert len(np.unique(of_run[1:, 0])) == 31
    every = volumes.shifted_rows(run[:40], times[:40], n_shifts=39, least=0.0)
    assert sorted(every[:, 0]) == list(range(40))
    many = volumes.shifted_rows(run, times, n_shifts=400, least=0.0)
    assert sorted(set(many[1:, 0])) == list(range(40))
    assert sorted(set(many[1:, 40])) == list(range(40, 70))
    with pytest.raises(ValueError, match="31 circular shifts of at least 10 s, but 32"):
        volumes.shifted_rows(run[:40], times[:40], n_shifts=32, least=10.0)


def test_shifted_residuals_keep_what_is_more_than_a_fit_of_noise_in_place():
    rng = np.random.default_rng(0)
    bold, z = rng.standard_normal((50, 3, 2)), rng.standard_normal((50, 2)) * 1e-5
    bold[:, :2] += 2e5 * z[:, :1, None]
    turned = np.stack([(np.arange(50) + by) % 50 for by in (0, 13, 21, 34)])
    kept = region_scores.shifted_residuals(bold, z, turned)
    np.testing.assert_allclose(kept[0], bold, atol=1e-6)
    flat = bold.reshape(50, -1)
    share = oracles.kept_share(flat, z * 1e5, turned)
    assert (share[:4] > 0.8).all() and (share < 1).all()
    fit = LinearRegression().fit(z * 1e5, flat).predict(z * 1e5)
    fit = (fit - fit.mean(axis=0)) * share
    for order, shifted in zip(turned[1:], kept[1:], strict=True):
        want = fit + (flat - fit)[order]
        np.testing.assert_allclose(shifted.reshape(50, -1), want, atol=1e-5)


def test_turned_recordings_of_noise_are_not_below_the_recording_beside_several_nuisances():
    """A fit of noise that stays in place costs the features of every turned recording some .012."""
    lost = []
    for seed in range(3):
        rng = np.random.default_rng(seed)

        def smooth(*shape, rng=rng):
            return lfilter([1], [1, -0.6], rng.standard_normal((170, *shape)), axis=0)[50:]

        bold, z, layer = smooth(1, 20), smooth(4), smooth(6)
        times, run = 2.0 * np.arange(120), np.zeros(120, int)
        folds = volumes.time_folds(times, run, n_folds=3, n_inner=2, purge=6.0)
        turned = volumes.shifted_rows(run, times, n_shifts=59, least=0.0, random_state=seed)
        kept = region_scores.shifted_residuals(bold, z, turned)
        penalties = folds, (1.0,), (1.0, 100.0, np.inf)
        both = region_scores.score(region_scores.prepare([layer], z, *penalties), folds, kept)
        alone = region_scores.score(region_scores.prepare([], z, *penalties), folds, kept)
        lost.append((both.correlation - alone.correlation)[1:].mean())
    assert -0.006 < np.mean(lost) < 0.004


def test_folds_are_blocks_with_a_gap_in_their_own_run():
    times, run = np.r_[2.0 * np.arange(60), 2.0 * np.arange(60)], np.repeat([0, 1], 60)
    folds = volumes.time_folds(times, run, n_folds=4, n_inner=3, purge=9.0)
    seen = np.concatenate(
        [rows[w > 0] for rows, w in zip(folds.test_rows, folds.test_weights, strict=True)]
    )
    assert sorted(seen) == list(range(120))
    assert np.flatnonzero(~folds.train[0]).tolist() == list(range(34))
    assert np.flatnonzero(~folds.train[1]).tolist() == list(range(26, 60))  # the next run is whole
    for fold in range(4):
        for inner in range(3):
            rows = folds.inner_rows[fold, inner][folds.inner_weights[fold, inner] > 0]
            train = folds.inner_train[fold, inner]
            assert folds.train[fold][rows].all() and not train[rows].any()
            assert not (train & ~folds.train[fold]).any()
    with pytest.raises(ValueError, match="fewer folds or a shorter purge"):
        volumes.time_folds(times, run, n_folds=4, n_inner=3, purge=200.0)


@pytest.mark.parametrize("driven_by_rate", [False, True])
def test_noise_is_found_as_often_as_promised(driven_by_rate):
    """Twenty recordings of noise, alone or on top of a response to the rate: few have p < .05."""
    made = simulated(seed=5)
    rng = np.random.default_rng(7)
    known = nuisance_features(made.recordings, FEW)
    rate = known["rate"]
    signal = zscored(rate[:, 0]) * driven_by_rate
    folds = volumes.time_folds(
        made.recordings.times, made.recordings.run, n_folds=4, n_inner=3, purge=10.0
    )
    turned = volumes.shifted_rows(
        made.recordings.run, made.recordings.times, n_shifts=39, least=20.0
    )
    # Regions stand for recordings here: each has its own noise.
    bold = zscored(noise(rng, N, S, 20)) + signal[:, None, None]
    penalties = folds, FEW.lambdas, (*FEW.alphas, np.inf)
    kept = region_scores.shifted_residuals(bold, rate, turned)
    joint = region_scores.score(region_scores.prepare(made.layers, rate, *penalties), folds, kept)
    alone = region_scores.score(region_scores.prepare([], rate, *penalties), folds, kept)
    unique = (joint.correlation - alone.correlation).mean(axis=1)
    p = (1 + (unique[1:] >= unique[0]).sum(axis=0)) / 40
    assert (p < 0.05).sum() <= 4  # 5 or more of 20 have a probability of .003
    assert 0.3 < p.mean() < 0.75


def test_ceiling_is_the_others_mean_within_blocks():
    made = simulated()
    bold = made.recordings.bold
    folds = volumes.time_folds(
        made.recordings.times, made.recordings.run, n_folds=4, n_inner=3, purge=0.0
    )
    ceiling = region_scores.ceiling(bold, folds)
    z = zscored(bold)
    want = [
        np.corrcoef(block[:, 2, 1], np.delete(block[:, :, 1], 2, axis=1).mean(axis=1))[0, 1]
        for block in np.array_split(z, 4)
    ]
    assert ceiling.shape == (S, 3) and ceiling[2, 1] == pytest.approx(np.mean(want))
    assert ceiling[:, 1].mean() > 0.4 > abs(ceiling[:, 2].mean()) + 0.2


def test_what_differs_by_rounding_alone_is_a_tie():
    made = simulated()
    what = {"model": "m", "nuisances": "", "metric": "unique_r"}
    null = np.zeros((9, S, 3))
    rows = effect_rows(made.recordings, what, np.full((S, 3), [1e-7, 0.0, 0.01]), null)
    group = rows[rows["subject"] == "group"]
    assert list(group["p"]) == list(group["p_max"]) == [1.0, 1.0, 0.1]


def test_evidence_by_hand():
    made = simulated()
    rng = np.random.default_rng(0)
    values = rng.standard_normal((S, 3)) * 0.1 + [1.0, 0.3, 0.0]
    null = rng.standard_normal((99, S, 3))
    what = {"model": "m", "nuisances": "", "metric": "r"}
    rows = effect_rows(made.recordings, what, values, null, n_bootstrap=20000)
    group = rows[rows["subject"] == "group"]
    means = null.mean(axis=1)
    for region, row in enumerate(group.itertuples()):
        mean = values[:, region].mean()
        assert row.p == (1 + sum(m >= mean for m in means[:, region])) / 100
        assert row.p_max == (1 + sum(m >= mean for m in means.max(axis=1))) / 100
        # The bootstrap's spread of a mean is s sqrt((n - 1) / n) / sqrt(n).
        spread = values[:, region].std() / np.sqrt(S)
        assert row.high - row.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    np.testing.assert_allclose(group["q"], stats.false_discovery_control(group["p"]))


def test_bad_recordings_are_told():
    made = simulated().recordings
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
    with pytest.raises(ValueError, match="subjects has 5 entries"):
        RegionRecordings(**fields | {"subjects": made.subjects[1:]})
    with pytest.raises(ValueError, match="constant"):
        RegionRecordings(**fields | {"bold": made.bold * 0})
    with pytest.raises(ValueError, match="no onsets"):
        RegionRecordings(**fields | {"stimulus": Stimulus(("a", "b"))})
    with pytest.raises(ValueError, match="shipped"):
        RegionRecordings(**fields | {"shipped": {"sound_power": np.ones(3)}})


def test_report_opens_with_the_verdict(scored_regions, tmp_path):
    _, table = scored_regions
    table.save(tmp_path)
    again = RegionTable.load(tmp_path)
    pd.testing.assert_frame_equal(again.rows, table.rows)
    assert again.manifest == json.loads(json.dumps(table.manifest))
    page = write_region_report(again, tmp_path).read_text()
    assert page.index("Yes, in 1 of 3 regions") < page.index("<li>") < page.index("<table")
    assert (
        "<strong>In the spoken region" in page and page.count("<script") == 1 and "http" not in page
    )
    assert page.count("<img") == 1
    text = re.sub('base64,[^"]*|<script>.*</script>', "", page, flags=re.DOTALL)
    assert "nan" not in text.lower().replace("nuisan", "")
    with pytest.raises(FileNotFoundError, match="holds no region encoding"):
        RegionTable.load(tmp_path / "other")


def test_everything_in_the_report_is_escaped(scored_regions, tmp_path):
    _, table = scored_regions
    evil = "<script>alert('x')</script>"
    rows = table.rows.assign(part=evil)
    for column in ("model", "nuisances", "region"):
        rows[column] = rows[column].str.replace(r"model|sound_power|idle", evil, regex=True)
    names = [["rate", evil]]
    manifest = table.manifest | {
        "dataset": {"name": evil, evil: evil}, "subjects": [evil], "model": evil, "command": evil,
        "models": dict.fromkeys((evil, f"untrained:{evil}"), {}), "parts": [evil], "compared_with": names,
        "nuisance_sets": names, "regions": dict.fromkeys(("paced", "spoken", evil), evil),
    }  # fmt: skip
    page = write_region_report(RegionTable(rows, manifest), tmp_path).read_text()
    assert page.count("<script") == 1 and page.count("&lt;script&gt;") > 30


@pytest.mark.filterwarnings("ignore")
def test_a_release_from_files_to_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = 700
    planted = simulate_alice("data", words=["say", "it", "now", "dear"] * 175, n_subjects=3)
    recordings = alice_regions("data", radii=("10mm",), motion=True)
    n = len(planted.rate)
    assert recordings.bold.shape == (n, 3, 6) and len(recordings.stimulus) == words
    raw = alice_files.read_timecourses(tmp_path / "data", recordings.subjects[1])
    design = np.column_stack(
        [
            np.ones(n),
            np.arange(n),
            alice_files.read_motion(tmp_path / "data", recordings.subjects[1]),
        ]
    )
    plain = alice_regions(tmp_path / "data", radii=("10mm", "6mm"), high_pass=None)
    left = raw - design @ np.linalg.lstsq(design, raw, rcond=None)[0]
    np.testing.assert_allclose(plain.bold[:, 1, :6], left / left.std(axis=0, ddof=1), atol=1e-6)
    assert plain.parts == ("10mm",) * 6 + ("6mm",) * 6
    vectors = tmp_path / "vectors.txt"
    rng = np.random.default_rng(0)
    vectors.write_text(
        "".join(
            f"{w} {' '.join(map(str, rng.random(5).round(3)))}\n"
            for w in ("say", "it", "now", "dear")
        )
    )
    told = []
    table = run_region_encoding(
        recordings,
        f"static:{vectors}",
        "out",
        encoding=Encoding(
            n_folds=2, n_inner=2, purge=4.0, n_shifts=5, alphas=(10.0,), n_bootstrap=50
        ),
        command="as typed",
        progress=told.append,
    )
    assert "as typed" in (tmp_path / "out" / "report.html").read_text() and told
    assert list(table.manifest["models"]) == [f"static:{vectors}"]
    assert len(verdicts(table)) == 6 and "twin" not in verdicts(table)[0].text


def test_real_regions(shared_data):
    with pytest.warns(UserWarning, match="s33"):
        recordings = alice_regions(shared_data / "alice", high_pass=None, motion=False)
    assert recordings.bold.shape == (362, 27, 12)
    rate = zscored(np.asarray(recordings.shipped["rate"]))
    # Detrended, the rate's correlations stay near those of the raw time courses, .075 to .131.
    r = (zscored(recordings.bold) * rate[:, None, None]).mean(axis=(0, 1))[:6]
    assert (r > 0.06).all() and (r < 0.15).all()
    computed = nuisance_features(recordings, Encoding())["rate"][:, 0]
    assert np.corrcoef(computed, rate)[0, 1] > 0.985
