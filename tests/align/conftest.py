"""What every kernel test needs: a precision, a random generator, and the eager = jit = vmap check.

Compilation is most of the time that these tests take. So the modules jit the kernels once, at the top,
for the many cases; eager calls are what `same_when_batched` compares jit and vmap with."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# `import oracles` has to work under every pytest import mode.
sys.path.insert(0, str(Path(__file__).parents[1]))


@dataclass(frozen=True)
class Precision:
    """A floating type and the error allowed in it, relative to the largest expected magnitude."""

    dtype: np.dtype
    tolerance: float

    @property
    def double(self) -> bool:
        return self.dtype == np.float64

    def array(self, x) -> jax.Array:
        return jnp.asarray(np.asarray(x), self.dtype)

    def arrays(self, *xs) -> tuple[jax.Array, ...]:
        return tuple(self.array(x) for x in xs)

    def close(self, actual, expected, *, factor: float = 1.0) -> None:
        """Same shape, the dtype of the inputs, and values within factor × tolerance."""
        expected = np.asarray(expected, np.float64)
        assert jnp.result_type(actual) == self.dtype
        assert np.shape(actual) == expected.shape
        scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
        np.testing.assert_allclose(
            np.asarray(actual, np.float64), expected, rtol=0, atol=factor * self.tolerance * scale
        )


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Both types, under strict promotion."""
    double = request.param == "float64"
    with jax.enable_x64(double), jax.numpy_dtype_promotion("strict"):
        yield Precision(np.dtype(request.param), 1e-9 if double else 2e-5)


@pytest.fixture
def double():
    """float64 only: what tests ask for that compile a great deal and say little more in float32."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield Precision(np.dtype("float64"), 1e-9)


@pytest.fixture
def keeps_float32():
    """Checks that float32 in is float32 out where x64 is on: no constant may forget the inputs' dtype.

    Shapes only; nothing is compiled. Arrays given as NumPy float64 are cast to float32 first.
    """

    def check(kernel, *args) -> None:
        args = [jnp.asarray(a, jnp.float32) if a.dtype == np.float64 else a for a in args]
        result = jax.eval_shape(kernel, *args)
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(result)}
        assert np.dtype("float32") in dtypes
        assert np.dtype("float64") not in dtypes

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield check


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20230618)


@pytest.fixture
def same_when_batched(double):
    """Checks one kernel three ways: a Python loop over eager calls, over jitted calls, and one vmap."""

    def check(kernel, *args, in_axes, factor: float = 1.0) -> None:
        size = next(len(a) for a, axis in zip(args, in_axes, strict=True) if axis == 0)

        def problem(b):
            return [a[b] if axis == 0 else a for a, axis in zip(args, in_axes, strict=True)]

        loop = [kernel(*problem(b)) for b in range(size)]
        expected = jax.tree.map(lambda *leaves: np.stack(leaves), *loop)
        jitted = jax.jit(kernel)
        compiled = [jitted(*problem(b)) for b in range(size)]
        compiled = jax.tree.map(lambda *leaves: np.stack(leaves), *compiled)
        batched = jax.jit(jax.vmap(kernel, in_axes=in_axes))(*args)
        for result in (compiled, batched):
            jax.tree.map(lambda a, e: double.close(a, e, factor=factor), result, expected)

    return check
