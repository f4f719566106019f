"""Times a job against its peers: interleaved medians, errors, share of the machine's matrix-multiply rate.

A `Job` is one line of a table. Nothing is set for our side that a user would have to set himself:
what its calls need (threads, caches), the library does.
"""

import gc
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_info

import brainalign_jax
from brainalign_jax.machine import package_version

_PACKAGES = (
    "jax",
    "jaxlib",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "himalaya",
    "rsatoolbox",
    "faiss-cpu",
)
_VARIABLES = ("OPENBLAS_", "OMP_", "MKL_", "XLA_", "JAX_", "CUDA_VISIBLE_DEVICES")
_PRODUCT = 4096  # rows, columns and inner size of the product that tells the machine's rate
_QUICK_S, _MOST_CALLS = 0.3, 10  # a side is called again, in a round, while it took less in all
_SLOW_S = 10.0  # a peer whose first call took longer has that counted as its first round
_SETTLE_S = 0.1  # threads of the other side's library spin for a while after their work


class Job(NamedTuple):
    """One job: what is timed, its peers, and what makes the figures worth something.

    name: as in the table.
    setup: makes the inputs by name, float32 NumPy (and what is derived from them), seeded.
    ours: inputs -> a function without arguments to time; it blocks until ready and returns NumPy.
    peers: name -> the same for each peer, at its best use; an ImportError says it is not installed.
    errors: (inputs, our result, results of the peers that ran) -> named errors against float64.
    flops: floating-point operations of the matrix products that our algorithm needs.
    targets: peer -> how many times faster we mean to be.
    peer_scale: peer -> what its seconds are multiplied by, where it runs a sample of the job only.
    """

    name: str
    setup: Callable[[], dict]
    ours: Callable[[dict], Callable[[], Any]]
    peers: dict[str, Callable[[dict], Callable[[], Any]]]
    errors: Callable[[dict, Any, dict[str, Any]], dict[str, float]]
    flops: float
    targets: dict[str, float]
    peer_scale: dict[str, float] = {}


def measure_job(job: Job, repeats: int, *, rate: float | None = None) -> dict:
    """Seconds of ours and of each peer, errors, share of `rate` (operations a second; None: unknown).

    Every side is called once before: the first call compiles, and its result goes to `errors`. Then
    rounds of one side after the other, `repeats` times; seconds are medians over all calls. Of a slow
    peer, where what a first call sets up is nothing beside the work, that call counts as one of them.
    """
    inputs = job.setup()
    sides = {"ours": job.ours(inputs)}
    absent = {}
    for peer, make in job.peers.items():
        try:
            sides[peer] = make(inputs)
        except ImportError as error:
            absent[peer] = f"not installed: {error}"
    busy, began, own = _busy_s(), time.perf_counter(), time.process_time()
    first, results = {}, {}
    for side, call in sides.items():
        first[side], results[side] = _timed(call)
    errors = job.errors(inputs, results["ours"], {k: v for k, v in results.items() if k != "ours"})
    del results
    slow = [side for side in sides if side != "ours" and first[side] > _SLOW_S]
    seconds = {side: [first[side]] if side in slow else [] for side in sides}
    for done in range(repeats):
        for side, call in sides.items():
            if side in slow and done == 0:
                continue
            time.sleep(_SETTLE_S)
            seconds[side] += call_times(call)
    medians = {
        side: statistics.median(times) * job.peer_scale.get(side, 1)
        for side, times in seconds.items()
    }
    others = _busy_s() - busy - (time.process_time() - own)
    return {
        "job": job.name,
        "ours_s": medians["ours"],
        "first_call_s": first["ours"],
        "peers": {
            peer: absent.get(peer)
            or {
                "seconds": medians[peer],
                "ratio": medians[peer] / medians["ours"],
                "target": job.targets.get(peer),
                "first_call_s": first[peer],
                "extrapolated_by": job.peer_scale.get(peer),
            }
            for peer in job.peers
        },
        "errors": {name: float(value) for name, value in errors.items()},
        "flops": job.flops,
        "share_of_rate": rate and job.flops / (medians["ours"] * rate),
        "all_s": seconds,
        "cores_of_others": max(0.0, others / (time.perf_counter() - began)),
    }


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def call_times(call: Callable[[], Any]) -> list[float]:
    """Seconds of one call, or of several where one is quick."""
    gc.collect()
    times: list[float] = []
    while not times or (sum(times) < _QUICK_S and len(times) < _MOST_CALLS):
        times.append(_timed(call)[0])
    return times


def _busy_s() -> float:
    """Processor seconds that all processes of the machine have used; 0 where Linux does not tell."""
    path = Path("/proc/stat")
    if not path.is_file():
        return 0.0
    return sum(map(int, path.read_text().split()[1:4])) / os.sysconf("SC_CLK_TCK")


def matmul_rates(
    size: int = _PRODUCT, repeats: int = 3, *, dtype: str = "float32"
) -> dict[str, float]:
    """Floating-point operations a second of a product [size, size], best call, by library.

    JAX's is at `precision="highest"`, on its default device, in `dtype`; the others' in float32 on the
    processor.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), np.float32) for _ in range(2))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    on_device = jax.tree.map(lambda x: jnp.asarray(x, dtype), (a, b))
    calls = {
        "jax": lambda: product(*on_device).block_until_ready(),
        "numpy": lambda: a @ b,
    }
    try:
        import torch
    except ImportError:
        pass
    else:
        tensors = torch.from_numpy(a), torch.from_numpy(b)
        calls["torch"] = lambda: tensors[0] @ tensors[1]
    rates = {}
    for library, call in calls.items():
        call()
        time.sleep(_SETTLE_S)
        rates[library] = 2 * size**3 / min(_timed(call)[0] for _ in range(repeats))
    return rates


def machine() -> dict:
    """What the figures depend on: processor, memory, devices, BLAS libraries, variables, versions."""
    versions = {"python": platform.python_version(), "brainalign_jax": brainalign_jax.__version__}
    versions |= {package: package_version(package) for package in _PACKAGES}
    return {
        "platform": platform.platform(),
        "processor": _first_line("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory": _first_line("/proc/meminfo", "MemTotal"),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "blas": [
            {key: info.get(key) for key in ("prefix", "version", "architecture", "num_threads")}
            for info in threadpool_info()
        ],
        "variables": {
            name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)
        },
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": versions,
        "commit": _commit(),
    }


def _first_line(path: str, name: str) -> str | None:
    """Value of the first line `name : value` of a file of Linux, if there is one."""
    if Path(path).is_file():
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return None


def _commit() -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return described.stdout.strip() or None


def markdown(rows: list[dict]) -> str:
    """A table of what `measure_job` gave: one line a job and peer."""
    lines = [
        "| job | ours s | peer | peer s | ratio | target | errors | share of matmul rate | first call s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['job']} | failed: {row['failed']} | | | | | | | |")
            continue
        errors = "; ".join(f"{name} {value:.2g}" for name, value in row["errors"].items())
        share = "" if row["share_of_rate"] is None else f"{row['share_of_rate']:.0%}"
        ours = f"{row['ours_s']:.3g}"
        apart = f"{row['first_call_s']:.1f}"
        for place, (peer, measured) in enumerate(row["peers"].items() or [("none", "")]):
            job, *rest = (row["job"], errors, share, apart) if place == 0 else ("", "", "", "")
            if isinstance(measured, str):
                cells = [job, ours, peer, measured, "", ""]
            else:
                target = "" if measured["target"] is None else f"{measured['target']:g}"
                how = " (extrapolated)" if measured["extrapolated_by"] else ""
                cells = [
                    job,
                    ours,
                    peer,
                    f"{measured['seconds']:.3g}{how}",
                    f"{measured['ratio']:.1f}",
                ]
                cells.append(target)
            lines.append("| " + " | ".join(cells + rest) + " |")
    return "\n".join(lines)


def shortfalls(rows: list[dict]) -> list[str]:
    """One line for each ratio that is below its target."""
    return [
        f"{row['job']}: {measured['ratio']:.1f} times {peer}, of {measured['target']:g}"
        for row in rows
        for peer, measured in row.get("peers", {}).items()
        if isinstance(measured, dict)
        and measured["target"]
        and measured["ratio"] < measured["target"]
    ]
