"""What the benchmarks of false positives share: flags, the loop over simulated studies, the table, the JSON.

A benchmark simulates studies in which nothing is to be found, of several kinds, and counts how many of them
have p < .05. Exact p-values would be below it in .05 of the studies (of 99 draws .04); the middle 95 % of .05
for 200 studies are .02 to .08.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.measure import machine
from brainalign_jax.study.evidence.chance import LEVEL, score_interval
from brainalign_jax.study.report.wording import listed


def define_flags(kinds: Sequence[str], *, count: str = "n_studies") -> None:
    """The flags of a benchmark; count: the one that says how many there are of each kind.

    Called where a benchmark is run as a program: tests import it in one process with commands that have flags
    of these names.
    """
    flags.DEFINE_integer(count, 200, "Of each kind without an effect.", 1)
    flags.DEFINE_list("kinds", list(kinds), f"Of {listed(kinds)}.")
    flags.DEFINE_integer("seed", 0, "Of the first study.")
    flags.DEFINE_string("output", None, "JSON file to write.")


def p_by_test(p_values: Callable[[str, int], Mapping[str, float]]) -> dict[str, list[float]]:
    """What is tested -> p in each study; p_values: (kind, seed) -> what one study tests, and its p."""
    asked = flags.FLAGS
    by_test: dict[str, list[float]] = {}
    for kind in asked.kinds:
        for study in range(asked.n_studies):
            for test, p in p_values(kind, asked.seed + study).items():
                by_test.setdefault(test, []).append(p)
    return by_test


def share_lines(by_test: Mapping[str, Sequence[float]]) -> list[str]:
    """A Markdown table of how many studies have p < .05, by test."""
    head = ["| test | studies | share with p < .05 | 95 % interval |", "|---|---|---|---|"]
    counts = {test: int(np.sum(np.array(p) < LEVEL)) for test, p in by_test.items()}
    return [*head, *(share_line(test, counts[test], len(p)) for test, p in by_test.items())]


def share_line(name: str, count: int, total: int) -> str:
    """A line of the table: a share with its exact interval."""
    low, high = score_interval(count, total)
    return f"| {name} | {total} | {count / total:.3f} | {low:.3f} to {high:.3f} |"


def finish(lines: Iterable[str], **content: object) -> None:
    """Print the table, and write the content beside the machine's facts where --output says so."""
    print("\n".join(lines))
    if flags.FLAGS.output:
        path = Path(flags.FLAGS.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine(), **content}, indent=2))
