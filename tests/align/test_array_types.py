"""The shapes in align's signatures hold in every test, and cost users nothing."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from brainalign_jax.align import linalg
from brainalign_jax.align.ridge import ridge
from brainalign_jax.align.stats import scoring


def test_tests_refuse_arrays_of_other_shapes_than_the_signature_says():
    rows, weights = jnp.ones((4, 3)), jnp.ones(4)
    assert linalg.weighted_mean(rows, weights).shape == (3,)
    with pytest.raises(jaxtyping.TypeCheckError, match="weights"):
        linalg.weighted_mean(rows, jnp.ones(3))
    with pytest.raises(jaxtyping.TypeCheckError, match="prediction"):
        scoring.pearson(rows, rows[:, :2])
    with pytest.raises(jaxtyping.TypeCheckError, match="targets"):
        ridge.loo_errors(ridge.factor(jnp.eye(4), weights), weights, jnp.ones(2))


def test_tests_refuse_them_where_a_kernel_is_traced():
    with pytest.raises(jaxtyping.TypeCheckError, match="weights"):
        jax.eval_shape(linalg.weighted_mean, jnp.ones((4, 3)), jnp.ones(3))
    batched = jax.eval_shape(
        jax.vmap(linalg.weighted_mean, (0, None)), jnp.ones((2, 4, 3)), jnp.ones(4)
    )
    assert batched.shape == (2, 3)


def test_users_pay_for_no_check():
    """Broadcasting goes on as JAX has it, and beartype need not be there."""
    code = """
import sys
import jax.numpy as jnp
from brainalign_jax.align.stats import scoring
print(scoring.pearson(jnp.eye(4, 3), jnp.eye(4)[:, :1]).shape, "beartype" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == "(3,) False", done.stderr
