"""Recordings to word responses: time, error and peak memory, against plain SciPy and NumPy.

    python -m benchmarks.bench_neural --folder=/scratch --output=out/bench_neural.json

Three parts (--parts): "mat", a full-size Harry Potter subject from its `.mat` to word responses, beside
what `scipy.io.loadmat` alone takes; "large", a subject of 9,000 volumes x 95,000 voxels streamed to word
responses of 20,000 words; "gram", the inner products of 5,000 of these words, read lazily.
About four minutes on 2 cores, 12 GB of disk. Expected: mat in 1.15 times the time of loadmat where a
second core is free, see the column of what others used, and 1.8 times on one core (a thread inflates, as
loadmat does, another one does the rest); large in 35 s with a peak of 1.1 times the recording, of
which 0.25 GB its own.

Errors are the largest difference from a slow float64 path that shares no code with the package,
relative to the largest value. Memory is of a process of its own: "peak" is VmHWM, which counts the
pages of mapped files that the system may drop at any time; "own" is the largest anonymous part,
sampled every 10 ms.
"""

import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scipy
import scipy.io
from absl import app, flags
from scipy.linalg import blas

from brainalign_jax.neural import WordResponses, open_dataset
from brainalign_jax.neural.fields import column_blocks
from brainalign_jax.neural.simulate import schedule_runs, simulate_harry_potter, story_words
from brainalign_jax.neural.simulate.harry_potter import release_schedule

_PARTS = flags.DEFINE_list("parts", ["mat", "large", "gram"], "What to run; gram needs large.")
_FOLDER = flags.DEFINE_string("folder", None, "Where the files are made; a temporary folder.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Interleaved runs of part mat; medians are reported.")
_MAT_VOXELS = flags.DEFINE_integer("mat_voxels", 30_000, "Voxels of the .mat file.")
_VOXELS = flags.DEFINE_integer("voxels", 95_000, "Voxels of the large subject.")
_RUNS = flags.DEFINE_integer(
    "runs", 20, "Runs of the large subject, 450 volumes and 1000 words each."
)
_GRAM_WORDS = flags.DEFINE_integer(
    "gram_words", 5000, "The first words, of which part gram takes all pairs."
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_TR, _WORD = 2.0, 0.85  # seconds, of the large subject
_DELAY, _SIDE, _SIGMA = 6.0, 2.0, 1.0  # the default window of a word and its Gaussian


class PeakMemory:
    """The most memory that this process holds inside the with-block, in bytes."""

    def __enter__(self) -> "PeakMemory":
        self.start = _memory("RssAnon")
        self.own, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = _memory("VmHWM")

    def _sample(self) -> None:
        while not self._stop.wait(0.01):
            self.own = max(self.own, _memory("RssAnon"))


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status does not tell {name}; this benchmark needs Linux")


def _busy_s() -> float:
    """Processor seconds that all processes of the machine have used."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def reference(bold, times, run, onsets, durations) -> np.ndarray:
    """Word responses [N, v] in float64, word by word: what the defaults are documented to do."""
    responses = np.zeros((len(onsets), bold.shape[1]))
    for label in np.unique(run):
        rows = np.flatnonzero(run == label)
        t, y = times[rows], np.asarray(bold[rows], np.float64)
        line = np.stack([np.ones(len(t)), t - t.mean()], axis=1)
        y = y - line @ np.linalg.lstsq(line, y, rcond=None)[0]
        y = y / y.std(axis=0, ddof=1)
        for word, onset in enumerate(onsets):
            low, high = onset + _DELAY - _SIDE, onset + _DELAY + durations[word] + _SIDE
            middle = (low + high) / 2
            if not t[0] <= middle <= t[-1] + (t[1] - t[0]) / 2:
                continue
            inside = (t >= low - 1e-6) & (t <= high + 1e-6)
            weight = np.exp(-0.5 * ((t[inside] - middle) / _SIGMA) ** 2)
            responses[word] = weight @ y[inside] / weight.sum()
    return responses


def error_of(responses: WordResponses, columns, bold, times, run) -> float:
    stimulus, valid = responses.stimulus, responses.valid
    expected = reference(bold, times, run, stimulus.onsets, stimulus.durations)[valid]
    got = responses.values[:, columns][valid]
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def words_of(number: int) -> list[str]:
    story = story_words()
    return [story[index % len(story)] for index in range(number)]


def bench_mat(folder: Path) -> dict:
    """Seconds of our whole way and of loadmat alone, interleaved, and the error of all voxels."""
    schedule = release_schedule()
    n_words = len(schedule.onsets)
    path = folder / "subject_1.mat"
    if not path.is_file():
        simulate_harry_potter(
            folder,
            words=words_of(n_words),
            vectors=np.random.default_rng(0).standard_normal((n_words, 5)),
            schedule=schedule,
            n_subjects=1,
            n_voxels=_MAT_VOXELS.value,
            compress=6,  # as MATLAB does
        )

    def ours():
        return open_dataset("harry_potter", folder).load("1")

    def peer():
        return scipy.io.loadmat(path)

    responses, content = ours(), peer()  # the first call imports what it needs: not counted
    time_run = content["time"][:, 0], content["time"][:, 1]
    error = 0.0
    for start in range(0, _MAT_VOXELS.value, 3000):
        part = slice(start, start + 3000)
        error = max(error, error_of(responses, part, content["data"][:, part], *time_run))
    valid, shape = int(responses.valid.sum()), responses.values.shape
    del responses, content
    wall: dict[str, list[float]] = {"ours": [], "peer": []}
    cpu: dict[str, list[float]] = {"ours": [], "peer": []}
    busy, began = _busy_s(), time.perf_counter()
    for _ in range(_REPEATS.value):
        for name, job in (("ours", ours), ("peer", peer)):
            start, start_cpu = time.perf_counter(), time.process_time()
            result = job()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
            del result
    others = _busy_s() - busy - sum(map(sum, cpu.values()))
    middle = {name: statistics.median(values) for name, values in wall.items()}
    return {
        "file_bytes": path.stat().st_size,
        "shape": shape,
        "valid_words": valid,
        "ours_s": middle["ours"],
        "loadmat_s": middle["peer"],
        "ratio": middle["ours"] / middle["peer"],
        "ours_cpu_s": statistics.median(cpu["ours"]),
        "loadmat_cpu_s": statistics.median(cpu["peer"]),
        "cores_of_others": max(0.0, others / (time.perf_counter() - began)),
        "all_s": wall,
        "relative_error": error,
    }


def write_large(folder: Path) -> None:
    """A subject in the NumPy layout of the Harry Potter data: noise of its own in every voxel."""
    schedule = schedule_runs(
        1000 * _RUNS.value, n_runs=_RUNS.value, tr=_TR, word_duration=_WORD, rest=(20.0, 30.0)
    )
    for name, values in (
        ("words_fmri", np.array(words_of(len(schedule.onsets)))),
        ("time_words_fmri", schedule.onsets),
        ("time_fmri", schedule.volume_times),
        ("runs_fmri", schedule.volume_run.astype(np.float64)),
    ):
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    rng = np.random.default_rng(1)
    shape = (len(schedule.volume_times), _VOXELS.value)
    data = np.lib.format.open_memmap(folder / "data_F.npy", "w+", np.float32, shape)
    for start in range(0, shape[0], 100):  # rows lie together
        block = rng.standard_normal(data[start : start + 100].shape, np.float32)
        data[start : start + 100] = 100 + 0.01 * (start % 450) + block
    data.flush()


def large_subject(folder: Path, responses_dir: Path) -> dict:
    """In a process of its own: the recording to a file of word responses."""
    with PeakMemory() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # words at the end of a run
        start, start_cpu = time.perf_counter(), time.process_time()
        dataset = open_dataset(
            "harry_potter", folder, word_duration=_WORD, responses_dir=str(responses_dir)
        )
        responses = dataset.load("F")
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    data = np.load(folder / "data_F.npy", mmap_mode="r")
    columns = np.linspace(0, data.shape[1] - 1, 64).astype(int)
    times, run = np.load(folder / "time_fmri.npy"), np.load(folder / "runs_fmri.npy")
    return {
        "shape": data.shape,
        "input_bytes": data.nbytes,
        "response_shape": responses.values.shape,
        "response_bytes": responses.values.nbytes,
        "valid_words": int(responses.valid.sum()),
        "seconds": seconds,
        "cpu_s": cpu,
        **_memory_facts(memory, data.nbytes),
        "relative_error": error_of(responses, columns, data[:, columns], times, run),
    }


def gram_of(path: Path, n_words: int, input_bytes: int) -> dict:
    """In a process of its own: inner products of the first words, from responses read lazily."""
    with PeakMemory() as memory:
        start = time.perf_counter()
        values = WordResponses.load(path).values[:n_words]
        opened = time.perf_counter() - start
        gram = np.zeros((len(values), len(values)), order="F")
        for _, block in column_blocks(values):
            # Adds to the lower half where it is: there is never a second matrix.
            gram = blas.dsyrk(
                1.0, block.astype(np.float64), beta=1.0, c=gram, lower=1, overwrite_c=1
            )
        seconds = time.perf_counter() - start
    few = np.linspace(0, len(values) - 1, 40).astype(int)
    rows = np.asarray(values[few], np.float64)
    expected = np.array([[np.dot(a, b) for b in rows] for a in rows])
    lower = np.tril_indices(len(few))
    wrong = np.abs(gram[np.ix_(few, few)] - expected)[lower].max()
    return {
        "words": len(values),
        "columns": values.shape[1],
        "open_s": opened,
        "seconds": seconds,
        "gram_bytes": gram.nbytes,
        **_memory_facts(memory, input_bytes),
        "relative_error": float(wrong / np.abs(expected).max()),
    }


def _memory_facts(memory: PeakMemory, input_bytes: int) -> dict:
    return {
        "peak_bytes": memory.peak,
        "own_bytes": memory.own,
        "own_at_start_bytes": memory.start,
        "peak_over_input": memory.peak / input_bytes,
        "own_over_input": memory.own / input_bytes,
    }


def alone(function, *arguments) -> dict:
    """Call a function in a fresh process, whose memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def run_parts(folder: Path) -> dict:
    results, parts = {}, _PARTS.value
    if "mat" in parts:
        (folder / "mat").mkdir(exist_ok=True)
        results["mat"] = mat = bench_mat(folder / "mat")
        print(
            "| part | ours s | loadmat s | ratio | ours CPU s | loadmat CPU s | "
            "cores of others | relative error |"
        )
        print("|---|---|---|---|---|---|---|---|")
        print(
            f"| {mat['file_bytes'] / 1e6:.0f} MB .mat to {mat['shape'][0]} words x "
            f"{mat['shape'][1]} voxels | {mat['ours_s']:.2f} | {mat['loadmat_s']:.2f} | "
            f"{mat['ratio']:.2f} | {mat['ours_cpu_s']:.2f} | {mat['loadmat_cpu_s']:.2f} | "
            f"{mat['cores_of_others']:.1f} | {mat['relative_error']:.1e} |\n",
            flush=True,
        )
    if "large" in parts:
        large, responses = folder / "large", folder / "responses"
        large.mkdir(exist_ok=True)
        write_large(large)
        results["large"] = of_subject = alone(large_subject, large, responses)
        recorded, n_words = of_subject["shape"], of_subject["response_shape"][0]
        names = {f"{recorded[0]} x {recorded[1]} to {n_words} words": of_subject}
        if "gram" in parts:
            count = min(_GRAM_WORDS.value, n_words)
            path = next(responses.glob("*.npz"))
            results["gram"] = alone(gram_of, path, count, of_subject["input_bytes"])
            names[f"Gram of {count} words, float64"] = results["gram"]
        print("| part | s | peak GB | peak / input | own GB | own / input | relative error |")
        print("|---|---|---|---|---|---|---|")
        for name, part in names.items():
            print(
                f"| {name} | {part['seconds']:.0f} | {part['peak_bytes'] / 1e9:.2f} | "
                f"{part['peak_over_input']:.2f} | {part['own_bytes'] / 1e9:.2f} | "
                f"{part['own_over_input']:.2f} | {part['relative_error']:.1e} |"
            )
    return results


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        results = run_parts(Path(folder))
    if _OUTPUT.value:
        machine = {
            "platform": platform.platform(),
            "processor": platform.processor(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        }
        path = Path(_OUTPUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        flags_used = (_REPEATS, _MAT_VOXELS, _VOXELS, _RUNS, _GRAM_WORDS)
        sizes = {flag.name: flag.value for flag in flags_used}
        path.write_text(json.dumps({"machine": machine, "sizes": sizes, **results}, indent=2))


if __name__ == "__main__":
    app.run(main)
