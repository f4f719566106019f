"""How the shapes of arrays are written: `Float[Array, "N D"]`, the axes by the names in the docstrings.

Nothing is checked where the package is used. The tests check each call against what is written here and
there, while it runs or is traced: a letter that stands twice in a signature is one size. Where a function
checks shapes itself, with a message of its own, "..." leaves them to it; `Shaped` is any type, a mask of
bool, integers or floats for instance. Fields of results are for one problem: batched, they have more axes.
"""

from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray, Real, Shaped

__all__ = ["Array", "Bool", "Float", "Int", "PRNGKeyArray", "Real", "Shaped"]

# Kernels take arrays and numbers of NumPy as well, for which mypy would miss `.at` and the like.
if TYPE_CHECKING:
    Array = jax.Array
else:
    Array = jax.Array | np.ndarray | np.generic
