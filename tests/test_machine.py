"""What is left for this process: of the machine, and of its control groups."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from brainalign_jax import machine

MIB = 2**20


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Lays out control groups: what the process is in, and files by their paths with their content."""
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")

    def lay_out(own: str, files: dict[str, object]) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    return lay_out


def test_without_groups_the_machine_counts(groups):
    machine_has = psutil.virtual_memory().total
    assert MIB < machine.free_memory() <= machine_has  # no list of groups at all
    groups("0::/a/b\n", {"a/b/memory.max": "max", "a/b/memory.current": 5 * MIB})
    assert MIB < machine.free_memory() <= machine_has
    groups("3:cpu:/a\n", {"memory.max": 7, "memory.current": 5, "a/memory.max": 7})
    assert MIB < machine.free_memory() <= machine_has


def test_a_limit_of_version_2_is_kept_wherever_it_is_set(groups):
    groups("0::/a/b\n", {"a/b/memory.max": "max", "a/b/memory.current": MIB})
    groups("0::/a/b\n", {"a/memory.max": 9 * MIB, "a/memory.current": 5 * MIB})
    assert machine.free_memory() == 4 * MIB
    groups("0::/a/b\n", {"a/memory.stat": f"active_file 7\ninactive_file {2 * MIB}"})
    assert machine.free_memory() == 6 * MIB  # files that the system drops when it must
    groups("0::/a/b\n", {"a/b/memory.max": 3 * MIB})
    assert machine.free_memory() == 2 * MIB
    groups("0::/a/b\n", {"a/b/memory.current": 4 * MIB})
    assert machine.free_memory() == 1  # more than it may


def test_a_limit_of_version_1_is_kept(groups):
    own = "9:name=systemd:/\n4:memory:/a\n0::/\n"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    groups(own, {f"memory/a/{name}": text for name, text in zip(names, (8, 3, ""), strict=True)})
    assert machine.free_memory() == 5
    groups(own, {"memory/a/memory.stat": "cache 3\ninactive_file 1\ntotal_inactive_file 2"})
    assert machine.free_memory() == 7


def test_in_a_container_only_the_group_around_it_is_in_sight(groups):
    groups("0::/docker/0123\n", {"memory.max": 9, "memory.current": 5})
    assert machine.free_memory() == 4
    groups("0::/../0123\n", {})
    assert machine.free_memory() == 4


def test_what_this_process_holds():
    before = machine.resident_bytes()
    held = np.ones(2**26, np.uint8)
    assert machine.resident_bytes() - before > 0.9 * held.nbytes
    if Path("/proc/self/statm").is_file():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        assert abs(machine.resident_bytes() - pages * os.sysconf("SC_PAGE_SIZE")) < 32 * MIB


def test_the_version_of_what_is_not_installed_is_none():
    assert machine.package_version("no-such-package") is None
    assert machine.package_version("numpy") == np.__version__
