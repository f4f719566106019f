import re
import subprocess
import sys

import pytest

from brainalign_jax.neural.readers import (
    Dataset,
    list_datasets,
    open_dataset,
    reader_options,
    register,
)
from brainalign_jax.neural.readers.registry import _READERS
from brainalign_jax.neural.readout import Processing
from brainalign_jax.stimulus import Stimulus


def test_registry_knows_the_readers_and_lists_them():
    names = (
        "alice",
        "bids",
        "epochs",
        "harry_potter",
        "kernels",
        "kriegeskorte2008",
        "lebel2023",
        "little_prince",
        "mne",
        "narratives",
        "natural_stories",
        "nifti",
    )
    names += ("pereira180", "pereira2018", "smn4lang", "smn4lang_meg", "table")
    assert list_datasets() == names
    with pytest.raises(
        ValueError, match="unknown data set 'alica'; the nearest: alice; .* lists all"
    ):
        open_dataset("alica", ".")


def test_readers_of_scans_take_the_choices_of_processing(monkeypatch):
    monkeypatch.setattr("brainalign_jax.neural.readers.registry._READERS", dict(_READERS))
    list_datasets()
    given = []

    @register("scans")
    def read_scans(data_dir, *, subjects=None, radius=3, processing=Processing()):
        given.append((radius, processing))
        return Dataset("scans", ("a",), Stimulus(("x",)), lambda name: name, {})

    open_dataset("scans", ".", radius=4, kind="delay", delay=5.0, trim=(1, 2))
    assert given == [(4, Processing(kind="delay", delay=5.0, trim=(1, 2)))]
    assert reader_options("scans")[:3] == ("radius", "kind", "delay")
    message = (
        "unknown option 'kinds' of scans; the nearest: kind.*`brainalign datasets scans` lists"
    )
    with pytest.raises(ValueError, match=message):
        open_dataset("scans", ".", kinds="delay")
    with pytest.raises(ValueError, match="unknown kind='box'"):
        open_dataset("scans", ".", kind="box")


def test_register_one_more_and_refuse_a_taken_name(monkeypatch):
    monkeypatch.setattr("brainalign_jax.neural.readers.registry._READERS", dict(_READERS))
    list_datasets()

    @register("toy")
    def read_toy(data_dir, *, subjects=None, scale=1):
        return Dataset("toy", ("a",), Stimulus(("x",)), lambda name: (name, scale), {})

    dataset = open_dataset("toy", ".", scale=3)
    assert dataset.load("a") == ("a", 3) and dataset.vectors == {}
    with pytest.raises(ValueError, match="unknown subject 'b' of toy; known: a"):
        dataset.load("b")
    with pytest.raises(ValueError, match="unknown option 'scala' of toy; known: scale"):
        open_dataset("toy", ".", scala=3)
    for name in ("toy", "table"):
        with pytest.raises(ValueError, match=f"'{name}' is taken"):
            register(name)(lambda data_dir: None)
    with pytest.raises(TypeError, match="the reader of 'other' takes no subjects: write def"):
        register("other")(lambda data_dir: None)
    register("other")(lambda data_dir, *, subjects=None: None)
    with pytest.raises(ValueError, match="the reader of 'other' returned NoneType, not a Dataset"):
        open_dataset("other", ".")


def test_the_names_of_the_packages_readers_are_known_before_they_are_looked_for():
    code = (
        "import brainalign_jax as ba\n"
        "try: ba.register('table')(lambda data_dir, *, subjects=None: None)\n"
        "except ValueError as error: print(error)\n"
        "print('table' in ba.list_datasets())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.match(r"the data set name 'table' is taken by .*\nTrue$", said.stdout.strip())
