"""How a study computes: precision, memory, devices, threads, and what is kept of compiled programs."""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brainalign_jax.files import user_path
from brainalign_jax.options import described, option_class
from brainalign_jax.threads import check_not_forked, one_blas_thread

_CACHE = "BRAINALIGN_COMPILATION_CACHE"
DTYPES = ("float32", "float64")
PRECISIONS = ("highest", "high", "default", "tensorfloat32", "bfloat16")


@option_class
class Computation:
    """Choices that change how long a study takes and how exact it is, not what it measures.

    `memory.fit` lowers layers, batch and threads to the memory.
    """

    dtype: str = described("Type of all numbers computed with.", "float32", choices=DTYPES)
    precision: str = described(
        "Of the products that give predictions and similarities, on accelerators that have faster and "
        "coarser ones; what a factorisation follows from is always exact.",
        "highest",
        choices=PRECISIONS,
        flag="matmul_precision",
    )
    layers: int = described(
        "Layers in one compiled call, at most.", 8, least=1, flag="layers_per_call"
    )
    batch: int | None = described(
        "Layers worked at once on each device; one on the CPU, all of a call elsewhere if not given.",
        None,
        least=1,
    )
    threads: int | None = described(
        "Calls at the same time; as many as the CPU has cores, one on accelerators if not given. One in any "
        "case where the CPU works several layers at once.",
        None,
        least=1,
    )
    rdm_bytes: int = described(
        "Bytes of dissimilarity matrices at a time; beyond it, RSA works in tiles.",
        2**31,
        least=1,
        most=2**60,
        flag="",
    )

    def at_once(self) -> int:
        """Layers worked at once on each device."""
        import jax

        on_cpu = jax.local_devices()[0].platform == "cpu"
        return self.batch or (1 if on_cpu else self.layers)

    def workers(self) -> int:
        """Calls at the same time. Several devices share each call instead.

        One where several layers are worked at once on the CPU: batches of decompositions wait for XLA's
        threads inside of them, and two calls that do so can wait for one another for ever.
        """
        import jax

        devices = jax.local_devices()
        if devices[0].platform == "cpu" and (len(devices) > 1 or self.at_once() > 1):
            return 1
        return self.threads or (cores() if devices[0].platform == "cpu" else 1)

    @contextlib.contextmanager
    def context(self):
        """Settings of JAX for one thread; every thread that computes enters it."""
        import jax

        check_not_forked()
        # LAPACK's own threads and XLA's fight over the cores: many small decompositions ran up to
        # 10 times slower with both.
        with (
            jax.enable_x64(self.dtype == "float64"),
            jax.default_matmul_precision(self.precision),
            one_blas_thread(),
        ):
            yield


# XLA's CPU backend compiles a study's programs in little more than half the time so, and they run as fast.
_QUICK = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 1,
    "xla_cpu_parallel_codegen_split_count": 1,  # several programs are compiled at the same time
}
_FEW_CORES = 4  # fewer than a study has folds


class compiled:  # noqa: N801
    """`jax.jit` with the options under which the programs of a study compile quickly.

    The program is made when it is first called: options depend on the device, which nothing that is only
    imported may ask for.
    """

    def __init__(self, function: Callable, static_argnames: Sequence[str] = ()):
        self._function, self._static = function, tuple(static_argnames)
        functools.update_wrapper(self, function)

    @functools.cached_property
    def _jitted(self):
        import jax

        return jax.jit(
            self._function, static_argnames=self._static, compiler_options=_compiler_options()
        )

    def __call__(self, *args, **kwargs):
        import jax

        # As a part of another program, or where only shapes are asked for, it takes no options.
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            return self._function(*args, **kwargs)
        return self._jitted(*args, **kwargs)

    def n_programs(self) -> int:
        """How many were compiled, one for each kind of shapes and static arguments."""
        return self._jitted._cache_size()

    def lower(self, *args, **kwargs):
        """As of `jax.jit`."""
        return self._jitted.lower(*args, **kwargs)


@functools.cache
def _compiler_options() -> dict[str, Any] | None:
    """_QUICK on a CPU, if this XLA knows the options and JAX was not told others; else None."""
    import jax

    if jax.default_backend() != "cpu" or _slow():
        return None
    try:
        jax.jit(lambda x: x + 1, compiler_options=_QUICK)(0.0)
    except Exception:  # an XLA that lacks one raises its own kind
        return None
    # Where calls keep all cores busy, each does best with one; more would wait for one another.
    return _QUICK | ({"xla_cpu_multi_thread_eigen": False} if cores() <= _FEW_CORES else {})


def _slow() -> bool:
    """Whether JAX was told to compile without optimisations, as our tests tell it."""
    return os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "0").lower() not in ("0", "false", "")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_compiled_programs() -> Path | None:
    """Keep compiled programs between processes, unless the user has said where or said no.

    They go to BRAINALIGN_COMPILATION_CACHE, or brainalign_jax/programs in the user's cache folder;
    an empty BRAINALIGN_COMPILATION_CACHE turns it off. JAX's own settings come first.
    Returns: the folder, or None.
    """
    import jax

    chosen = getattr(jax.config, "jax_compilation_cache_dir", None)
    if chosen:
        return Path(chosen)
    setting = os.environ.get(_CACHE)
    if setting == "":
        return None
    if setting is None:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = user_path(base, "XDG_CACHE_HOME") / "brainalign_jax" / "programs"
    else:
        folder = user_path(setting, _CACHE, "a folder, or nothing at all to keep no programs")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    return folder
