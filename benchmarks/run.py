"""All jobs of a suite against their peers: seconds, ratio, error and share of the machine's limit.

    python -m benchmarks.run --suite=core,evidence --output=out/core.json

Under 15 minutes on 2 cores for the suite "core", the solvers of `align` and `study`, and under 10 for
"evidence", null draws beside their score and whole commands. --jobs=csls takes
the jobs whose names match. Prints a Markdown table, a line for each ratio below its target, and writes
JSON with all timings and the versions, anew after each job. Expect errors up to 1e-4 for predictions, 0 for
alphas and ranks that differ otherwise than at ties, and every ratio at its target, on a machine with nothing
else to do: the column of what other processes used is in the JSON file, and above a tenth of a core it is
warned of. The peers want `pip install -e '.[bench]'`.
"""

import json
import os
from pathlib import Path

import jax
from absl import app, flags, logging

from benchmarks import suite
from benchmarks.measure import machine, markdown, shortfalls

_SUITE = flags.DEFINE_string(
    "suite", "core", "Jobs of the modules benchmarks/SUITE_*; several by commas."
)
_JOBS = flags.DEFINE_string("jobs", "", "Only jobs whose name matches this regular expression.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Interleaved rounds; medians are reported.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    # First calls are to compile, whatever earlier runs left on the disk.
    jax.config.update("jax_enable_compilation_cache", False)
    if "OPENBLAS_CORETYPE" in os.environ:
        logging.warning(
            "OPENBLAS_CORETYPE=%s may slow NumPy and SciPy, the peers: run this with "
            "`env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE`, if OpenBLAS is a recent one",
            os.environ["OPENBLAS_CORETYPE"],
        )
    about = machine()

    def keep(rows: list[dict], rates: dict[str, float]) -> None:
        if _OUTPUT.value:
            path = Path(_OUTPUT.value)
            path.parent.mkdir(parents=True, exist_ok=True)
            contents = {"machine": about, "matmul": rates, "rows": rows}
            path.write_text(json.dumps(contents, indent=2))

    rows, rates = suite.run(suite.collect(_SUITE.value, _JOBS.value), _REPEATS.value, keep=keep)
    keep(rows, rates)
    print(markdown(rows))
    told = ", ".join(f"{library} {rate / 1e9:.0f}" for library, rate in rates.items())
    print(f"\nfloat32 matrix products, GFLOP/s: {told}")
    print("\n".join(f"below its target: {line}" for line in shortfalls(rows)))
    if any("failed" in row for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    app.run(main)
