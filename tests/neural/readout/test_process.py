"""Scans to word responses in blocks of voxels, against the whole recording at once."""

import contextlib
import mmap
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest

from brainalign_jax.neural import recording as recording_module
from brainalign_jax.neural.readout import Processing, word_responses
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.readout.kernels import word_kernel
from brainalign_jax.neural.recording import BoldRecording, assign_runs
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.stimulus import Stimulus

N_RUNS, PER_RUN, TR, V = 3, 40, 2.0, 150


class Columns:
    """A recording that can only be read in order."""

    def __init__(self, values, fails_at=None):
        self.values, self.fails_at = values, fails_at
        self.shape, self.dtype = values.shape, values.dtype

    def blocks(self, size):
        for start in range(0, self.shape[1], size):
            if self.fails_at is not None and start >= self.fails_at:
                raise ValueError("scan.mat is damaged: get it again")
            yield np.asfortranarray(self.values[:, start : start + size])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """64 voxels at a time, the least there is."""
    monkeypatch.setattr(recording_module, "_BLOCK_BYTES", 1)


@pytest.fixture
def scans():
    rng = np.random.default_rng(0)
    times = np.concatenate([run * 110.0 + TR * np.arange(PER_RUN) for run in range(N_RUNS)])
    run = np.repeat(np.arange(1, N_RUNS + 1), PER_RUN)
    bold = 100 + rng.standard_normal((len(times), V)).cumsum(axis=0)
    space = VoxelSpace.volume(np.stack(np.unravel_index(np.arange(V), (5, 5, 6)), 1), (5, 5, 6))
    names = tuple(f"v{i}" for i in range(V))
    return BoldRecording("s1", bold, times, run, space=space, feature_names=names, source="scan.x")


@pytest.fixture
def story():
    onsets = np.concatenate([run * 110.0 + 10 + 1.3 * np.arange(30) for run in range(N_RUNS)])
    words = [f"w{i}" for i in range(len(onsets))]
    return Stimulus(
        tuple(words),
        onsets=onsets,
        durations=np.full(len(onsets), 0.7),
        run=np.repeat(np.arange(1, N_RUNS + 1), 30),
    )


def whole(scans, story, processing, *, delay=None, kind=None):
    """Everything at once, in float64."""
    cleaned = clean_runs(
        np.asarray(scans.bold, np.float64),
        scans.run,
        tr=TR,
        detrend=processing.detrend,
        standardize=processing.standardize,
        high_pass=processing.high_pass,
        confounds=scans.confounds,
    )
    kernel = word_kernel(
        story.onsets,
        scans.times,
        run=story.run,
        volume_run=scans.run,
        durations=story.durations,
        kind=kind or processing.kind,
        delay=processing.delay if delay is None else delay,
        window=processing.window,
        sigma=processing.sigma,
    )
    return kernel @ cleaned


@pytest.mark.parametrize("kind", ["gaussian", "paper", "delay", "hrf"])
@pytest.mark.parametrize("form", ["array", "fortran", "columns", "float32", "file"])
def test_blocks_equal_the_whole(scans, story, kind, form, tmp_path):
    processing = Processing(kind=kind)
    expected = whole(scans, story, processing)
    bold = scans.bold
    if form == "fortran":
        bold = np.asfortranarray(bold)
    elif form == "columns":
        bold = Columns(bold)
    elif form == "float32":
        bold = bold.astype(np.float32)
    elif form == "file":
        np.save(tmp_path / "bold.npy", bold)
        bold = np.load(tmp_path / "bold.npy", mmap_mode="r")
    responses = word_responses(replace(scans, bold=bold), story, processing, meta={"dataset": "x"})
    if form == "float32":
        expected = whole(replace(scans, bold=bold), story, processing)
    np.testing.assert_allclose(responses.values, expected, rtol=0, atol=2e-6)
    assert responses.values.dtype == np.float32 and responses.valid.all()
    assert responses.meta["dataset"] == "x" and responses.meta["tr"] == TR
    assert responses.meta["kernel"]["kind"] == kind
    assert responses.meta["timing_error"] <= (TR if kind == "paper" else TR / 2)
    assert responses.space.n_columns == V and responses.meta["feature_names"][-1] == "v149"


def test_small_integers_and_confounds_and_filter(scans, story):
    rng = np.random.default_rng(1)
    counts = np.round(scans.bold * 10).astype(np.int16)
    confounds = rng.standard_normal((len(counts), 3))
    processing = Processing(high_pass=0.01)
    recording = replace(scans, bold=counts, confounds=confounds)
    responses = word_responses(recording, story, processing, meta={})
    np.testing.assert_allclose(responses.values, whole(recording, story, processing), atol=2e-6)
    assert responses.meta["cleaning"]["confounds"] == 3
    plain = word_responses(replace(recording, confounds=None), story, processing, meta={})
    assert np.abs(plain.values - responses.values).max() > 0.05


def test_volume_times_come_back_as_onset_and_delay(scans, story):
    bold = scans.bold.copy()
    bold[:, 5] = scans.times
    processing = Processing(kind="delay", delay=5.0, detrend=False, standardize=False)
    responses = word_responses(replace(scans, bold=bold), story, processing, meta={})
    np.testing.assert_allclose(responses.values[:, 5], story.onsets + 5.0, atol=1e-4)


def test_responses_are_streamed_to_a_file_and_read_lazily(scans, story, tmp_path):
    for options in ({}, {"bad_voxels": "drop"}, {"kind": "fir"}):
        kept = word_responses(scans, story, Processing(**options), meta={"a": 1})
        folder = tmp_path / "responses"
        there = Processing(**options, responses_dir=str(folder))
        lazy = word_responses(scans, story, there, meta={"a": 1})
        owner = lazy.values
        while isinstance(owner, np.ndarray):
            owner = owner.base
        assert isinstance(owner, mmap.mmap)
        np.testing.assert_array_equal(lazy.values, kept.values)
        assert lazy.meta == kept.meta and lazy.fingerprint() == kept.fingerprint()
        assert [path.name for path in folder.iterdir()] == ["s1.npz"]


def spoil(bold):
    bold = bold.copy()
    bold[3, 2] = np.nan
    bold[PER_RUN : 2 * PER_RUN, 70] = 5.0
    bold[9, 149] = np.inf
    return bold


@pytest.mark.parametrize("in_file", [False, True])
def test_unusable_voxels_are_counted_over_all_blocks(scans, story, tmp_path, in_file):
    recording = replace(scans, bold=Columns(spoil(scans.bold)))
    folder = {"responses_dir": str(tmp_path)} if in_file else {}
    message = (
        r"subject s1, scan.x: 2 of 150 voxels \(columns\) hold NaN or infinite values, the first is "
        r"column 2 and 1 of 150 voxels \(columns\) are constant within a run, the first is column 70"
    )
    with pytest.raises(ValueError, match=message + ".*bad_voxels=drop"):
        word_responses(recording, story, Processing(**folder), meta={})
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match=message + "; dropped"):
        responses = word_responses(
            recording, story, Processing(bad_voxels="drop", **folder), meta={}
        )
    good = np.delete(np.arange(V), [2, 70, 149])
    expected = word_responses(scans, story, Processing(), meta={}).values[:, good]
    np.testing.assert_allclose(responses.values, expected, atol=1e-6)
    assert responses.meta["dropped_voxels"] == 3
    assert responses.meta["feature_names"] == [f"v{i}" for i in good]
    np.testing.assert_array_equal(responses.space.coordinates, scans.space.coordinates[good])


def test_voxels_of_rounding_only_are_found_by_the_range_of_later_blocks(scans, story):
    bold = scans.bold.copy()
    bold[:, :3] = 1e-12 * np.random.default_rng(2).standard_normal((len(bold), 3))
    with pytest.raises(ValueError, match="3 of 150 voxels .* are constant within a run"):
        word_responses(replace(scans, bold=bold), story, Processing(), meta={})
    with pytest.warns(UserWarning, match="3 of 150"):
        responses = word_responses(
            replace(scans, bold=bold), story, Processing(bad_voxels="drop"), meta={}
        )
    expected = word_responses(scans, story, Processing(), meta={}).values[:, 3:]
    np.testing.assert_allclose(responses.values, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "fir", "deconvolution"])
@pytest.mark.parametrize("block", [slice(0, 64), slice(64, 128), slice(128, 150)])
def test_a_block_without_any_usable_voxel(scans, story, tmp_path, kind, block):
    bold, n = scans.bold.copy(), len(range(V)[block])
    bold[5, block] = np.nan
    choices = {"kind": kind} | ({"alpha": 1.0} if kind == "deconvolution" else {})
    for folder in (None, str(tmp_path)):
        dropping = Processing(bad_voxels="drop", responses_dir=folder, **choices)
        with pytest.warns(UserWarning, match=f"{n} of 150 voxels"):
            responses = word_responses(replace(scans, bold=bold), story, dropping, meta={})
        expected = word_responses(scans, story, Processing(**choices), meta={}).values
        each = expected.reshape(len(story), V, -1)
        expected = np.delete(each, block, 1).reshape(len(story), -1)
        np.testing.assert_allclose(responses.values, expected, atol=1e-6)
        with pytest.raises(ValueError, match=f"{n} of 150 voxels"):
            raising = Processing(responses_dir=folder, **choices)
            word_responses(replace(scans, bold=bold), story, raising, meta={})


def test_trimmed_volumes_take_no_part(scans, story):
    bold = scans.bold.copy()
    for run in range(N_RUNS):
        bold[run * PER_RUN : run * PER_RUN + 2] = 1e6
        bold[(run + 1) * PER_RUN - 1] = np.nan
    responses = word_responses(replace(scans, bold=bold), story, Processing(trim=(2, 1)), meta={})
    rows = np.concatenate([run * PER_RUN + np.arange(2, PER_RUN - 1) for run in range(N_RUNS)])
    short = replace(
        scans,
        bold=scans.bold[rows],
        times=scans.times[rows],
        run=scans.run[rows],
        confounds=None,
    )
    np.testing.assert_allclose(responses.values, whole(short, story, Processing()), atol=2e-6)
    with pytest.raises(ValueError, match="leaves 0 of the 40 volumes of run 1"):
        word_responses(scans, story, Processing(trim=(30, 30)), meta={})


def test_fir_puts_the_delays_of_a_voxel_side_by_side(scans, story):
    responses = word_responses(scans, story, Processing(kind="fir", delays=(2.0, 5.0)), meta={})
    assert responses.values.shape == (len(story), 2 * V)
    for index, delay in enumerate((2.0, 5.0)):
        expected = whole(scans, story, Processing(), delay=delay, kind="delay")
        np.testing.assert_allclose(responses.values[:, index::2], expected, atol=2e-6)
    assert responses.meta["feature_names"][:3] == ["v0 +2 s", "v0 +5 s", "v1 +2 s"]
    assert responses.space is None and responses.meta["kernel"]["delays"] == [2.0, 5.0]


def test_words_that_one_delay_misses_are_not_valid(scans, story):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        responses = word_responses(
            scans, story, Processing(kind="fir", delays=(2.0, 60.0)), meta={}
        )
    assert 0 < responses.valid.sum() < len(story)
    assert not responses.values[~responses.valid].any()


def test_deconvolution_chooses_its_penalty_from_all_blocks(scans, story):
    free = word_responses(scans, story, Processing(kind="deconvolution"), meta={})
    alpha = free.meta["kernel"]["alpha"]
    assert alpha > 0
    fixed = word_responses(scans, story, Processing(kind="deconvolution", alpha=alpha), meta={})
    np.testing.assert_allclose(free.values, fixed.values, atol=1e-6)
    other = word_responses(
        scans, story, Processing(kind="deconvolution", alpha=alpha * 100), meta={}
    )
    assert np.abs(other.values).max() < np.abs(fixed.values).max()


def test_a_damaged_file_is_an_error_and_leaves_no_thread_or_file(scans, story, tmp_path):
    broken = replace(scans, bold=Columns(scans.bold, fails_at=64))
    for processing in (Processing(), Processing(responses_dir=str(tmp_path))):
        with pytest.raises(ValueError, match="scan.mat is damaged"):
            word_responses(broken, story, processing, meta={})
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": np.arange(5.0)}, "scan.x: 5 volume times for 120 volumes"),
        ({"run": np.zeros(3)}, "3 run labels for 120 volumes"),
        ({"confounds": np.zeros((7, 2))}, "7 confounds for 120 volumes"),
        ({"confounds": np.full((120, 2), np.nan)}, "scan.x, confounds: column 0 of 2 holds NaN"),
        ({"confounds": np.zeros(120)}, r"confounds have shape \(120,\)"),
        ({"bold": np.zeros((120, 0))}, r"shape \(120, 0\)"),
        ({"bold": np.full((120, 2), "a")}, "not numbers"),
        ({"feature_names": ("a",)}, "feature names describe 1 of 150"),
        ({"times": np.arange(120.0)}, "scan.x: .*covers none"),
    ],
)
def test_disagreeing_parts_name_the_source(scans, story, change, message):
    if change.get("times", np.zeros(5)).size == 120:
        story = replace(story, onsets=story.onsets + 5000)
    with pytest.raises(ValueError, match=message):
        word_responses(replace(scans, **change), story, Processing(), meta={})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "box"}, "unknown kind='box'; known: gaussian, paper, delay, hrf, fir, deconv"),
        ({"bad_voxels": "keep"}, "unknown bad_voxels='keep'; known: raise, drop"),
        ({"window": 3.0}, "window is .*give 2 numbers"),
        ({"trim": (1, -1)}, "not negative"),
        ({"alpha": 0.0}, "positive penalty"),
        ({"delays": ()}, "delays"),
        ({"delays": ("a",)}, "give one or more numbers"),
        ({"standardize": "no"}, "standardize is 'no'; give true or false"),
        ({"high_pass": "none"}, "high_pass is 'none'; give a number, or leave it out"),
        ({"high_pass": -0.1}, "positive frequency"),
    ],
)
def test_choices_that_do_not_exist(options, message):
    with pytest.raises(ValueError, match=message):
        Processing(**options)


def test_words_without_onsets_cannot_be_read_out(scans):
    with pytest.raises(ValueError, match="scan.x: the words have no onsets"):
        word_responses(scans, Stimulus(("a", "b")), Processing(), meta={})


def test_words_belong_to_the_run_that_spans_them():
    times = np.r_[0:20:2.0, 50:70:2.0]
    run = np.repeat([2, 1], 10)
    onsets = [0.0, 19.9, 20.0, 50.0, 69.0]
    assert assign_runs(onsets, times, run, source="f").tolist() == [2, 2, 2, 1, 1]
    with pytest.raises(ValueError, match="f: 1 words begin outside every run.* word 1 at 30 s"):
        assign_runs([5.0, 30.0], times, run, source="f")
    with pytest.raises(ValueError, match="f: the runs overlap in time"):
        assign_runs([5.0], np.r_[0:20:2.0, 10:30:2.0], run, source="f")


def no_reader_is_left():
    return not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_a_reading_that_stops_early_leaves_no_thread(scans, story, tmp_path, monkeypatch):
    scan = recording_module.Scan(scans, None, scans.run, constant=True)
    with contextlib.closing(scan.read(check=True)) as blocks:
        next(blocks)
    assert no_reader_is_left()

    def interrupt(self, block):
        raise KeyboardInterrupt

    monkeypatch.setattr("brainalign_jax.neural.readout.process.Cleaner.__call__", interrupt)
    for folder in (None, str(tmp_path)):
        with pytest.raises(KeyboardInterrupt):
            word_responses(scans, story, Processing(responses_dir=folder), meta={})
        assert no_reader_is_left() and not list(tmp_path.iterdir())


def test_nothing_is_made_of_rounding(scans, story):
    rng = np.random.default_rng(5)
    many = replace(scans, confounds=rng.standard_normal((len(scans.times), 38)))
    with pytest.raises(ValueError, match="scan.x: run 1 has 40 volumes .* take fewer confounds"):
        word_responses(many, story, Processing(), meta={})
    with pytest.warns(UserWarning, match="leave 3 degrees of freedom"):
        word_responses(
            replace(many, confounds=many.confounds[:, :35]), story, Processing(), meta={}
        )
    ramp = scans.bold.copy()
    ramp[:, 9] = np.tile(np.arange(PER_RUN), N_RUNS) * 3.0 + 7
    ramps = replace(scans, bold=ramp)
    with pytest.raises(ValueError, match="1 voxels are nothing but trend and confounds in run 1"):
        word_responses(ramps, story, Processing(), meta={})


@pytest.mark.parametrize("kind", ["gaussian", "fir", "deconvolution"])
@pytest.mark.parametrize("lazily", [False, True])
def test_voxels_that_cleaning_empties_can_be_dropped(scans, story, tmp_path, kind, lazily):
    # As at the edge of the field of view: a voxel that is zero but for the first volume of a run, of
    # which fMRIPrep's regressor of that volume leaves nothing.
    spikes = np.zeros((len(scans.times), N_RUNS))
    spikes[PER_RUN * np.arange(N_RUNS), np.arange(N_RUNS)] = 1
    edge = scans.bold.copy()
    edge[:, [9, 120]] = 40.0 * spikes.sum(axis=1)[:, None]
    edge[:, 30] = 7.0
    options = {"kind": kind, "responses_dir": str(tmp_path) if lazily else None}
    edges = replace(scans, bold=edge, confounds=spikes)
    with pytest.raises(ValueError, match="constant|nothing but .* bad_voxels=drop"):
        word_responses(edges, story, Processing(**options), meta={})
    expected = r"1 of \d+ .* constant.* and 2 .* nothing but .* column 9"
    with pytest.warns(UserWarning, match=expected):
        responses = word_responses(edges, story, Processing(bad_voxels="drop", **options), meta={})
    others = np.setdiff1d(np.arange(V), [9, 30, 120])
    few = replace(scans, bold=edge[:, others], confounds=spikes, space=None, feature_names=None)
    expected = word_responses(few, story, Processing(**options), meta={})
    np.testing.assert_array_equal(responses.values, expected.values)
    assert responses.meta["dropped_voxels"] == 3


def test_a_gap_within_a_run_is_told(scans, story):
    single_run = replace(scans, run=np.ones(len(scans.run), int))
    words = Stimulus(story.words, onsets=story.onsets, durations=story.durations)
    with pytest.warns(
        UserWarning, match=r"scan.x: run 1 has a gap, .* 78 and 110 s are 16.0 TR .*2 such"
    ):
        word_responses(single_run, words, Processing(), meta={})


def test_one_wild_voxel_makes_no_other_look_constant(scans, story):
    bold = scans.bold.copy()
    bold[5, 100] = 1e15
    responses = word_responses(replace(scans, bold=bold), story, Processing(), meta={})
    expected = word_responses(scans, story, Processing(), meta={}).values
    others = np.arange(V) != 100
    np.testing.assert_allclose(responses.values[:, others], expected[:, others], atol=1e-6)


def test_the_penalty_does_not_depend_on_the_order_of_unusable_voxels(scans, story):
    noise = 1e-13 * np.random.default_rng(6).standard_normal((len(scans.times), 64))
    choices = Processing(kind="deconvolution", bad_voxels="drop")
    chosen = []
    for columns in ([noise, scans.bold], [scans.bold, noise]):
        bold = np.concatenate(columns, axis=1)
        recording = replace(scans, bold=bold, space=None, feature_names=None)
        with pytest.warns(UserWarning, match="64 of 214"):
            responses = word_responses(recording, story, choices, meta={})
        chosen.append(responses.meta["kernel"]["alpha"])
    assert chosen[0] == chosen[1]


def test_words_need_the_runs_of_the_recording(scans, story):
    with pytest.raises(ValueError, match="scan.x: the recording has 3 runs, .* assign_runs"):
        word_responses(scans, replace(story, run=None), Processing(), meta={})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="scan.x: no word is covered at all of delays"):
            word_responses(scans, story, Processing(kind="fir", delays=(-30.0, 60.0)), meta={})


def test_each_run_is_filtered_at_its_own_tr():
    rng = np.random.default_rng(7)
    times = np.concatenate([2.0 * np.arange(100), 500 + 1.0 * np.arange(300)])
    run = np.repeat([1, 2], [100, 300])
    bold = rng.standard_normal((400, 3)) + np.sin(2 * np.pi * 0.035 * times)[:, None]
    onsets = np.r_[20 + 3.0 * np.arange(40), 520 + 3.0 * np.arange(80)]
    story = Stimulus([f"w{i}" for i in range(120)], onsets=onsets, run=np.repeat([1, 2], [40, 80]))
    choices = Processing(high_pass=0.05)
    responses = word_responses(BoldRecording("s", bold, times, run), story, choices, meta={})
    first = story.select(np.arange(40))
    alone = BoldRecording("s", bold[:100], times[:100], run[:100])
    expected = word_responses(alone, first, choices, meta={})
    np.testing.assert_allclose(responses.values[:40], expected.values, atol=1e-6)
    with pytest.raises(ValueError, match="recording: high_pass is 0.3 Hz in run 1 .*0.25 Hz"):
        word_responses(alone, first, Processing(high_pass=0.3), meta={})


def test_subjects_of_like_names_have_files_of_their_own(scans, story, tmp_path):
    choices = Processing(responses_dir=str(tmp_path))
    for name in ("a/b", "a_b", "x" * 300):
        word_responses(replace(scans, subject=name), story, choices, meta={"dataset": "d"})
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 3 and "d-a_b.npz" in names


def test_a_source_with_fewer_voxels_than_it_says(scans, story):
    short = Columns(scans.bold)
    short.shape = (len(scans.bold), V + 5)
    recording = replace(scans, bold=short, space=None, feature_names=None)
    with pytest.raises(ValueError, match="scan.x: 150 of 155 voxels could be read"):
        word_responses(recording, story, Processing(), meta={})


@pytest.mark.parametrize("kind", ["gaussian", "fir"])
def test_an_offset_is_taken_off_where_cleaning_leaves_it(scans, story, tmp_path, kind):
    """3e7 on one voxel: without the cast's rounding, all voxels centred, uncovered words zero."""
    raw = Processing(kind=kind, detrend=False, standardize=False)
    late = story.onsets.copy()
    late[-1] = scans.times[-1] + 1  # not covered
    story = replace(story, onsets=late)
    bold = scans.bold + 3e7 * (np.arange(V) == 70)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = word_responses(scans, story, raw, meta={})
        lifted = word_responses(replace(scans, bold=bold), story, raw, meta={})
        there = replace(raw, responses_dir=str(tmp_path))
        lazy = word_responses(replace(scans, bold=bold), story, there, meta={})
    covered = plain.valid
    level = np.repeat(scans.bold.mean(axis=0), len(raw.delays) if kind == "fir" else 1)
    np.testing.assert_allclose(lifted.values[covered], plain.values[covered] - level, atol=2e-4)
    assert not covered.all() and not lifted.values[~covered].any()
    assert lifted.meta["cleaning"]["centred"] and "centred" not in plain.meta["cleaning"]
    np.testing.assert_array_equal(lazy.values, lifted.values)
