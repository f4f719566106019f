"""All jobs of a suite against their peers: seconds, ratio, error and share of the machine's limit.

    python -m benchmarks.run --suite=core --output=out/core.json

Under 15 minutes on 2 cores for the suite "core", the solvers of `align` and `study`. --jobs=csls takes
the jobs whose names match. Prints a Markdown table, a line for each ratio below its target, and writes
JSON with all timings and the versions. Expect errors up to 1e-4 for predictions, 0 for alphas and ranks
that differ otherwise than at ties, and every ratio at its target, given a machine with nothing
else to do: the column of what other processes used is in the JSON file, and above a tenth of a core it is
warned of. The peers want `pip install -e '.[bench]'`.
"""

import gc
import importlib
import json
import os
import pkgutil
import re
from pathlib import Path

import jax
from absl import app, flags, logging

import benchmarks
from benchmarks.measure import Job, machine, markdown, matmul_rates, measure_job, shortfalls

_SUITE = flags.DEFINE_string("suite", "core", "Takes the jobs of the modules benchmarks/SUITE_*.")
_JOBS = flags.DEFINE_string("jobs", "", "Only jobs whose name matches this regular expression.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Interleaved rounds; medians are reported.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def collect(suite: str, pattern: str) -> list[Job]:
    """Jobs of the modules benchmarks/SUITE_*, by name, whose name matches. Raises ValueError if none."""
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    modules = [
        importlib.import_module(f"benchmarks.{name}")
        for name in names
        if name.startswith(f"{suite}_")
    ]
    known = [job for module in modules for job in module.jobs()]
    found = [job for job in known if re.search(pattern, job.name, re.IGNORECASE)]
    if not found:
        raise ValueError(
            f"suite {suite!r} has no job that matches {pattern!r}: it has "
            f"{', '.join(repr(job.name) for job in known) or 'none at all'}"
        )
    return found


def run(jobs: list[Job], repeats: int) -> tuple[list[dict], dict[str, float]]:
    """Rows of all jobs, and the machine's best rates, before and after. A job that fails has a row too."""
    rates = matmul_rates()
    rows = []
    for job in jobs:
        logging.warning("measuring: %s", job.name)
        try:
            row = measure_job(job, repeats, rate=max(rates.values()))
        except Exception as error:  # the other jobs go on; main ends with an error
            logging.exception("%s failed", job.name)
            row = {"job": job.name, "failed": f"{type(error).__name__}: {error}"}
        if row.get("cores_of_others", 0) > 0.1:
            logging.warning("other processes used %.1f cores meanwhile", row["cores_of_others"])
        rows.append(row)
        jax.clear_caches()
        gc.collect()
    after = matmul_rates()
    return rows, {library: max(rate, after[library]) for library, rate in rates.items()}


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
    rows, rates = run(collect(_SUITE.value, _JOBS.value), _REPEATS.value)
    print(markdown(rows))
    told = ", ".join(f"{library} {rate / 1e9:.0f}" for library, rate in rates.items())
    print(f"\nfloat32 matrix products, GFLOP/s: {told}")
    print("\n".join(f"below its target: {line}" for line in shortfalls(rows)))
    if _OUTPUT.value:
        path = Path(_OUTPUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": about, "matmul": rates, "rows": rows}, indent=2))
    if any("failed" in row for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    app.run(main)
