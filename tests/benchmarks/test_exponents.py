import jax.numpy as jnp
import pytest

from benchmarks import exponents


def test_exponent_is_the_slope_of_logarithms():
    assert exponents.exponent([10, 20, 40], [3.0, 12.0, 48.0]) == pytest.approx(2)


def outer(x, ys):
    return lambda x, ys: jnp.outer(ys[:, :, 0], ys[:, :, 0])


def test_bytes_grow_as_the_arrays_do(monkeypatch):
    monkeypatch.setitem(exponents.KERNELS, "outer", outer)
    monkeypatch.setitem(exponents._NOT_OF, "outer", ("voxels", "dimension"))
    rows = exponents.grow("outer", exponents.Sizes(words=400, voxels=1, layers=1, dimension=1), 3)
    assert [row["axis"] for row in rows] == ["words", "layers"]
    assert rows[0]["values"] == [400, 800, 1600]
    assert [row["memory_exponent"] for row in rows] == pytest.approx([2, 2], abs=0.05)
    assert all(point["seconds"] > 0 for row in rows for point in row["points"])
    table = exponents.markdown(rows).splitlines()
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1
