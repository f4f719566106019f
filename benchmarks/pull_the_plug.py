"""Kills extractions at random moments and looks at what is left.

    python -m benchmarks.pull_the_plug --times=20

An extraction into a cache is started in a process of its own and killed (SIGKILL) at a moment drawn between
its first batch and the end of the cache write; this is repeated until `--times` were killed, each start
going on with what the last one left. After every kill: the state on disk must hold every batch that was
reported as saved, and once an extraction comes to its end, its vectors must be those of one that was never
disturbed, bit by bit. Then the cache is emptied and all begins anew. Prints a line a kill; fails on the first
wrong vector or lost batch. About 6 minutes on 2 cores.
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

    found = list(Path(cache).glob("*.partial"))
    return read_arrays(found[0])[0]["done"] if found else 0


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
    return lines + [one for one in rest if one], killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from small_models import add_letter_tokenizer, save_checkpoint

    rng = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = save_checkpoint("gpt2", place + "/model", n_layers=6)
        add_letter_tokenizer(folder)
        expected = extract_slowly(folder, None, "whole", 0.0)
        killed, rounds = {"batches": 0, "write": 0}, 0
        while sum(killed.values()) < chosen.times:
            cache, layout = place + "/cache", ("whole", "streamed")[rounds % 2]
            lines, rounds, in_write = [], rounds + 1, False
            while True:
                before = saved_batches(cache)
                process = start(folder, cache, layout, 0.05)
                in_write = rng.random() < 0.4
                mark = "writing" if in_write else rng.choice(["saved", f"saved {before + 2}"])
                lines, dead = kill_at(process, mark, rng.uniform(0, 0.25))
                reported = [int(one.split()[1]) for one in lines if one.startswith("saved")]
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
                if "written" in lines or sum(killed.values()) >= chosen.times:
                    break
            found = start_and_read(folder, cache, layout)
            if layout == "whole" and found.fingerprint() != expected.fingerprint():
                sys.exit("the vectors differ from those of an undisturbed extraction")
            worst = np.abs(found.values - expected.values).max()
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
