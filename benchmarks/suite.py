"""The jobs of a suite: found by the names of modules, measured one after the other."""

import gc
import importlib
import pkgutil
import re
from collections.abc import Callable

import jax
from absl import logging

import benchmarks
from benchmarks.measure import Job, matmul_rates, measure_job


def collect(suite: str, pattern: str) -> list[Job]:
    """Jobs of the modules benchmarks/SUITE_*, by name, whose name matches. Raises ValueError if none.

    suite: one, or several with commas between.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    modules = [
        importlib.import_module(f"benchmarks.{name}")
        for name in names
        if name.startswith(tuple(f"{part}_" for part in suite.split(",")))
    ]
    known = [job for module in modules for job in module.jobs()]
    matching = [job for job in known if re.search(pattern, job.name, re.IGNORECASE)]
    if not matching:
        raise ValueError(
            f"suite {suite!r} has no job that matches {pattern!r}: it has "
            f"{', '.join(repr(job.name) for job in known) or 'none at all'}"
        )
    return matching


def run(
    jobs: list[Job], repeats: int, *, keep: Callable[[list[dict], dict[str, float]], None]
) -> tuple[list[dict], dict[str, float]]:
    """Rows of all jobs, and the machine's best rates, before and after. A job that fails has a row too.

    keep: called with the rows and rates so far after each job, so that a run that is broken off has its rows.
    """
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
        keep(rows, rates)
        jax.clear_caches()
        gc.collect()
    after = matmul_rates()
    return rows, {library: max(rate, after[library]) for library, rate in rates.items()}
