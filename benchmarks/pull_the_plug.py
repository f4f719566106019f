"""Kills extractions and studies at random moments and looks at what is left.

    python -m benchmarks.pull_the_plug --what=study --times=20
    python -m benchmarks.pull_the_plug --what=vectors --times=20

study: a study with null draws, controls, noise ceilings and the report is started in a process of its own
and killed (SIGKILL) at a moment drawn uniformly from the time that it takes, or while its files are moved;
it is started again, in the same folder, until it comes to its end, then all begins anew in a folder that
holds another study's results. After every kill the folder holds files of one study or none that can be
loaded; at the end every table is that of a study that was never disturbed, bit by bit, and nothing else
lies about.

vectors: an extraction into a cache is killed at a moment drawn between its first batch and the end of the
cache write; each start goes on with what the last one left. After every kill the state on disk must hold
every batch that was reported as saved, and at the end the vectors must be those of one that was never
disturbed, bit by bit.

Prints a line a kill; fails on the first wrong number or lost batch. Some 6 minutes each on 2 cores.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_CODE = """
import sys, time
sys.path[:0] = {path!r}
from benchmarks.pull_the_plug import extract_slowly
extract_slowly({folder!r}, {cache!r}, {layout!r}, {pause!r})
"""
_WORDS = 600
_STUDY = """
import sys
sys.path[:0] = {path!r}
from benchmarks.pull_the_plug import study
study({output!r}, {vectors!r}, {seed!r})
"""


def extract_slowly(folder: str, cache: str | None, layout: str, pause: float):
    """Embed a generated text; says on stdout when a state was saved and when the write begins."""
    from brainalign_jax.language import cache as caching
    from brainalign_jax.language import embed
    from brainalign_jax.stimulus import Stimulus

    due = caching.Partial.due
    save, write = caching.Partial.save, caching.EmbeddingCache._write

    def save_aloud(self, plan, done, arrays):
        save(self, plan, done, arrays)
        print("saved", done, flush=True)
        time.sleep(pause)

    def write_aloud(self, *args):
        print("writing", flush=True)
        write(self, *args)
        print("written", flush=True)

    caching.Partial.save, caching.EmbeddingCache._write = save_aloud, write_aloud
    caching.Partial.due = lambda self: True
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(1, 8))) for _ in range(_WORDS)]
    stimulus = Stimulus.from_words(words, sentence=np.arange(_WORDS) // 12)
    try:
        return embed(stimulus, folder, cache_dir=cache, batch_tokens=256, layout=layout)
    finally:
        caching.Partial.save, caching.EmbeddingCache._write = save, write
        caching.Partial.due = due


def start(folder: str, cache: str, layout: str, pause: float) -> subprocess.Popen:
    """The extraction in a process of its own."""
    root = str(Path(__file__).resolve().parents[1])
    code = _CODE.format(path=[root], folder=folder, cache=cache, layout=layout, pause=pause)
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def saved_batches(cache: str) -> int:
    """How many batches the state on disk holds; 0 without one."""
    from brainalign_jax.language.cache import read_arrays

    partial = list(Path(cache).glob("*.partial"))
    return read_arrays(partial[0])[0]["done"] if partial else 0


def kill_at(process: subprocess.Popen, line: str, delay: float) -> tuple[list[str], bool]:
    """Wait for a line that begins so, then `delay` seconds, then SIGKILL: (lines said, killed?)."""
    lines = []
    for said in process.stdout:
        lines.append(said.strip())
        if said.startswith(line):
            break
    time.sleep(delay)
    killed = process.poll() is None
    os.kill(process.pid, signal.SIGKILL) if killed else None
    rest = process.stdout.read().split("\n")
    process.wait()
    return lines + [later for later in rest if later], killed


def study(output: str, vectors: str, seed: int) -> None:
    """A study of a simulated story with all of the evidence; says when it begins and when it is written."""
    from brainalign_jax.neural.readers import Dataset
    from brainalign_jax.studies.checks.power import simulated_study
    from brainalign_jax.study import outputs
    from brainalign_jax.study.options import EvidencePlan, Scoring
    from brainalign_jax.study.protocol import protocol
    from brainalign_jax.study.run import run_study

    move = outputs._move

    def move_aloud(*args):
        print("moving", flush=True)
        move(*args)
        print("moved", flush=True)

    outputs._move = move_aloud
    responses, _ = simulated_study(0.4, n_words=80, n_types=50, n_subjects=2, seed=0)
    by_name = {person.subject: person for person in responses}
    dataset = Dataset("story", tuple(by_name), responses[0].stimulus, by_name.__getitem__)
    chosen = protocol("audited", n_folds=3, n_inner_folds=2, purge=2.0)
    scoring = Scoring(("procrustes", "ridge", "rsa"), chosen, (1, 10), seed=seed)
    plan = EvidencePlan(n_nulls=5, n_permutations=19, n_bootstraps=100, seed=seed)
    print("begun", flush=True)
    run_study(dataset, [f"static:{vectors}"], scoring, output, evidence=plan, progress=False)


def start_study(output: Path, vectors: Path, seed: int) -> subprocess.Popen:
    """The study in a process of its own."""
    root = str(Path(__file__).resolve().parents[1])
    code = _STUDY.format(path=[root], output=str(output), vectors=str(vectors), seed=seed)
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished_study(output: Path, vectors: Path, seed: int) -> float:
    """Let the study come to its end; how many seconds it took since it said that it began."""
    process = start_study(output, vectors, seed)
    process.stdout.readline()
    begin = time.monotonic()
    process.stdout.read()
    if process.wait():
        sys.exit(f"the study of seed {seed} failed")
    return time.monotonic() - begin


def differences(resumed: Path, expected: Path) -> list[str]:
    """What differs, to the bit, between the tables of two studies; files that only one of them has."""
    from brainalign_jax.study.results import ResultTable

    table, other = ResultTable.load(resumed), ResultTable.load(expected)
    told = [] if table.rows.equals(other.rows) else ["results"]
    told += [f"only one has {name}" for name in {*table.extras} ^ {*other.extras}]
    common = {*table.extras} & {*other.extras}
    told += [name for name in sorted(common) if not table.extras[name].equals(other.extras[name])]
    told += [f"manifest: {key}" for key in table.manifest if key not in ("created",)
             and table.manifest[key] != other.manifest.get(key) and key != "computation"]  # fmt: skip
    lists = [
        {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and path.relative_to(folder).parts[0] not in ("cells", "embeddings")
        }
        for folder in (resumed, expected)
    ]
    return told + [f"file {name}" for name in sorted(lists[0] ^ lists[1])]


def one_study(output: Path, of: dict[int, Path]) -> str:
    """Which study the files in a folder are of; "none" where there is none that can be loaded."""
    from brainalign_jax.study.outputs import sha256_of
    from brainalign_jax.study.results import ResultTable

    names = ("results.parquet", "nulls.parquet", "evidence.parquet")
    owners = {
        seed: {name: sha256_of(folder / name) for name in names} for seed, folder in of.items()
    }
    there = {name: sha256_of(output / name) for name in names if (output / name).is_file()}
    fitting = [seed for seed, digests in owners.items() if there.items() <= digests.items()]
    if not fitting:
        sys.exit(f"the tables in {output} are of several studies")
    if not (output / "manifest.json").is_file():
        return "none"
    seed = ResultTable.load(output).manifest["seed"]
    if seed not in fitting or (there and len(fitting) != 1):
        sys.exit(f"the manifest in {output} is of study {seed}, its tables of {fitting}")
    return str(seed)


def kill_studies(times: int, rng: random.Random, place: Path) -> None:
    """Kill a study `times` times; see the module's docstring."""
    vectors = place / "vectors.txt"
    write_vectors(vectors)
    undisturbed = {seed: place / f"undisturbed{seed}" for seed in (0, 1)}
    seconds = [finished_study(folder, vectors, seed) for seed, folder in undisturbed.items()]
    killed, rounds, in_move, longest = 0, 0, 0, max(seconds)
    while killed < times:
        output, seed = place / f"study{rounds}", 1
        shutil.copytree(undisturbed[0], output)
        while True:
            process = start_study(output, vectors, seed)
            aim = "moving" if rng.random() < 0.2 else "begun"
            delay = rng.uniform(0, 0.02 if aim == "moving" else longest)
            lines, dead = kill_at(process, aim, delay)
            if not dead:
                longest = max(1.0, 0.8 * longest)  # most was there already
                break
            killed, in_move = killed + 1, in_move + ("moving" in lines)
            owner = one_study(output, undisturbed)
            print(f"killed {delay:.2f} s after {aim!r}: the folder holds study {owner}", flush=True)
            if killed >= times:
                break
        finished_study(output, vectors, seed)
        told = differences(output, undisturbed[seed])
        hidden = [str(path) for path in output.rglob(".*.tmp")]
        if told or hidden:
            sys.exit(f"{output} differs from a study that was never disturbed: {told} {hidden}")
        print("finished: equal to the bit", flush=True)
        shutil.rmtree(output)
        rounds += 1
    print(f"{killed} killed, {in_move} of them while files were moved; no number wrong, none mixed")


def write_vectors(path: Path) -> None:
    """Vectors of all words of the simulated story, drawn at random, in text format."""
    from brainalign_jax.studies.checks.power import simulated_study

    responses, _ = simulated_study(0.4, n_words=80, n_types=50, n_subjects=2, seed=0)
    rng = np.random.default_rng(0)
    types, _ = responses[0].stimulus.types(lower=False)
    lines = [f"{word} " + " ".join(f"{x:.5f}" for x in rng.standard_normal(16)) for word in types]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", choices=("study", "vectors"), default="study")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.what == "vectors":
        kill_extractions(chosen.times, random.Random(chosen.seed))
        return
    with tempfile.TemporaryDirectory() as place:
        kill_studies(chosen.times, random.Random(chosen.seed), Path(place))


def kill_extractions(times: int, rng: random.Random) -> None:
    """Kill an extraction `times` times; see the module's docstring."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from small_models import add_letter_tokenizer, save_checkpoint

    with tempfile.TemporaryDirectory() as place:
        folder = save_checkpoint("gpt2", place + "/model", n_layers=6)
        add_letter_tokenizer(folder)
        expected = extract_slowly(folder, None, "whole", 0.0)
        killed, rounds = {"batches": 0, "write": 0}, 0
        while sum(killed.values()) < times:
            cache, layout = place + "/cache", ("whole", "streamed")[rounds % 2]
            lines, rounds, in_write = [], rounds + 1, False
            while True:
                before = saved_batches(cache)
                process = start(folder, cache, layout, 0.05)
                in_write = rng.random() < 0.4
                mark = "writing" if in_write else rng.choice(["saved", f"saved {before + 2}"])
                lines, dead = kill_at(process, mark, rng.uniform(0, 0.25))
                reported = [int(said.split()[1]) for said in lines if said.startswith("saved")]
                if not dead:
                    break
                at = "write" if "writing" in lines else "batches"
                killed[at] += 1
                left = saved_batches(cache)
                if reported and reported[0] <= before:
                    sys.exit(f"batch {reported[0]} was computed again, {before} were saved")
                if "written" not in lines and left < max([before, *reported]):
                    sys.exit(f"lost: {max([before, *reported])} saved, {left} on disk")
                print(f"killed in {at:7} ({layout}): {left} on disk", flush=True)
                if "written" in lines or sum(killed.values()) >= times:
                    break
            resumed = start_and_read(folder, cache, layout)
            if layout == "whole" and resumed.fingerprint() != expected.fingerprint():
                sys.exit("the vectors differ from those of an undisturbed extraction")
            worst = np.abs(resumed.values - expected.values).max()
            if not worst <= 1e-5:
                sys.exit(f"the vectors differ by {worst}")
            print(f"finished ({layout}): largest difference {worst:.2g}", flush=True)
            shutil.rmtree(cache)
        print(f"{sum(killed.values())} killed, {killed}; no batch lost, no vector wrong")


def start_and_read(folder: str, cache: str, layout: str):
    """Let an extraction come to its end in this process."""
    return extract_slowly(folder, cache, layout, 0.0)


if __name__ == "__main__":
    main()
