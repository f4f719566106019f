"""Numerics: pure functions on one problem, batched from outside with `vmap`.

`align.ridge`, `.procrustes`, `.rsa`, `.retrieval` and the others are modules, loaded when used.

>>> import brainalign_jax as ba
>>> import jax
>>> x = jax.random.normal(jax.random.key(0), (50, 3))
>>> fitted = ba.align.procrustes.fit(x, x[:, [2, 0, 1]], jax.numpy.ones(50))
>>> abs(fitted.rotation).round(2).tolist()
[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
"""

import importlib
import pkgutil


def __getattr__(name: str):
    if name.startswith("_") or name not in __dir__():
        raise AttributeError(f"brainalign_jax.align has no module {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
