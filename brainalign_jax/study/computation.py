"""How a study computes: precision, memory, devices, threads, and what is kept of compiled programs."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import jax
from threadpoolctl import threadpool_limits

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known

_CACHE = "BRAINALIGN_COMPILATION_CACHE"
DTYPES = ("float32", "float64")
PRECISIONS = ("highest", "high", "default", "tensorfloat32", "bfloat16")


@dataclass(frozen=True)
class Computation:
    """Choices that change how long a study takes and how exact it is, not what it measures.

    dtype: of responses, vectors and all results.
    precision: of the products that give predictions and similarities, on accelerators that have
      faster and coarser ones. What a factorisation or a Gram matrix follows from is always "highest".
    layers: layers in one compiled call at most; batch: layers worked at once on each device, None for
      one on the CPU and all of a call on accelerators;
    threads: calls at the same time, None for as many as the CPU has cores, or one on accelerators;
      one in any case where the CPU works several layers at once. `plan.fit` lowers the three to the memory.
    rdm_bytes: of dissimilarity matrices at a time; beyond it, RSA works in tiles.
    """

    dtype: str = "float32"
    precision: str = "highest"
    layers: int = 8
    batch: int | None = None
    threads: int | None = None
    rdm_bytes: int = 2**31

    def __post_init__(self):
        for field, known in (("dtype", DTYPES), ("precision", PRECISIONS)):
            check_known(f"{field}=", getattr(self, field), known)
        for field in ("layers", "batch", "threads"):
            if getattr(self, field) is not None and getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1")

    def at_once(self) -> int:
        """Layers worked at once on each device."""
        one = jax.local_devices()[0].platform == "cpu"
        return self.batch or (1 if one else self.layers)

    def workers(self) -> int:
        """Calls at the same time. Several devices share each call instead.

        One where several layers are worked at once on the CPU: batches of decompositions wait for XLA's
        threads inside of them, and two calls that do so can wait for one another for ever.
        """
        devices = jax.local_devices()
        if devices[0].platform == "cpu" and (len(devices) > 1 or self.at_once() > 1):
            return 1
        return self.threads or (cores() if devices[0].platform == "cpu" else 1)

    @contextlib.contextmanager
    def context(self):
        """Settings of JAX for one thread; every thread that computes enters it."""
        # LAPACK's own threads and XLA's fight over the cores: many small decompositions ran up to
        # 10 times slower with both. This one is the whole process's.
        with (
            jax.enable_x64(self.dtype == "float64"),
            jax.default_matmul_precision(self.precision),
            threadpool_limits(1, user_api="blas"),
        ):
            yield


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_compiled_programs() -> Path | None:
    """Keep compiled programs between processes, unless the user has said where or said no.

    They go to BRAINALIGN_COMPILATION_CACHE, or brainalign_jax/programs in the user's cache folder;
    an empty BRAINALIGN_COMPILATION_CACHE turns it off. JAX's own settings come first.
    Returns: the folder, or None.
    """
    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    given = os.environ.get(_CACHE)
    if given == "":
        return None
    if given is None:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = user_path(base, "XDG_CACHE_HOME") / "brainalign_jax" / "programs"
    else:
        folder = user_path(given, _CACHE, "a folder, or nothing at all to keep no programs")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
