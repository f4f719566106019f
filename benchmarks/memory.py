"""Peak memory of studies as planned and as measured, each in a process of its own.

    python -m benchmarks.memory --output=out/memory.json

About four minutes on 2 cores. Prints a Markdown table: what `study.memory` predicts, the peak resident set
that the system measured, and both less what the process held before the study began. Expect the peak
within 25 % of the plan.
"""

import json
import subprocess
import sys
from pathlib import Path

from absl import app, flags, logging

_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_CASES = flags.DEFINE_list("cases", [], "Numbers of the cases to run; all if not given.")

# words, voxels, layers, width, methods, protocol
CASES = (
    (1000, 10_000, 13, 768, ("procrustes", "ridge", "rsa"), "audited"),
    (2000, 4000, 13, 768, ("ridge",), "audited"),
    (2000, 4000, 7, 1024, ("procrustes",), "audited"),
    (1200, 8000, 13, 768, ("ridge",), "paper"),
    (3000, 20_000, 4, 512, ("rsa",), "audited"),
)

STUDY = """
import json, resource, sys, tempfile
import numpy as np
from brainalign_jax.language import Embeddings
from brainalign_jax.machine import resident_bytes
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study import memory
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.sweep import Scoring, score_subjects
n, v, layers, width, methods, name = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
words = Stimulus.from_words([f"word{i}" for i in range(n)])
values = rng.standard_normal((n, v), np.float32)
responses = WordResponses("S0", values, words)
vectors = Embeddings("model", words.words, rng.standard_normal((layers, n, width), np.float32),
                     meta={"family": "none", "n_params": 1, "n_layers": layers - 1})
scoring = Scoring(tuple(methods), protocol(name, timed=False, n_folds=4, n_inner_folds=4), (10,))
blocks = [[values.shape for _, values in vectors.blocks()]]
# What this process holds of the vectors already is not to be counted a second time.
held = vectors.values.nbytes
before = resident_bytes() - held - values.nbytes
planned = memory.fit(responses, blocks, scoring)
score_subjects("p", [responses], vectors, scoring, computation=planned.computation)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"planned": planned.peak - held, "peak": peak, "before": before,
                  "largest_stage": max(planned.stages, key=lambda s: s.bytes).name}))
"""


def measure(case: tuple) -> dict:
    """Planned and measured bytes of one study."""
    done = subprocess.run(
        [sys.executable, "-c", STUDY, json.dumps(case)], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"the study of {case} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    rows = []
    print("| words | voxels | layers | width | methods | protocol | planned GB | peak GB | peak / planned "
          "| the study's part alone |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for number, case in enumerate(CASES):
        if _CASES.value and str(number) not in _CASES.value:
            continue
        n_bytes = measure(case)
        words, voxels, layers, width, methods, protocol = case
        ratio = n_bytes["peak"] / n_bytes["planned"]
        own = (n_bytes["peak"] - n_bytes["before"]) / (n_bytes["planned"] - n_bytes["before"])
        print(
            f"| {words} | {voxels} | {layers} | {width} | {', '.join(methods)} | {protocol} | "
            f"{n_bytes['planned'] / 1e9:.2f} | {n_bytes['peak'] / 1e9:.2f} | {ratio:.2f} | {own:.2f} |",
            flush=True,
        )
        rows.append({"case": case, **n_bytes})
    if _OUTPUT.value:
        path = Path(_OUTPUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    app.run(main)
