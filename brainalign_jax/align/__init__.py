"""Numerics: pure functions on one problem, batched from outside with `vmap`.

`align.ridge`, `.procrustes`, `.rsa`, `.retrieval` and `.stats` are folders of modules, loaded when used;
every module is found here, too (`align.ridge_cv`).

>>> import brainalign_jax as ba
>>> import jax
>>> x = jax.random.normal(jax.random.key(0), (50, 3))
>>> fitted = ba.align.procrustes.fit(x, x[:, [2, 0, 1]], jax.numpy.ones(50))
>>> abs(fitted.rotation).round(2).tolist()
[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
"""

import functools
import importlib
import pkgutil


def __getattr__(name: str):
    home = _homes().get(name)
    if home is None:
        raise AttributeError(f"brainalign_jax.align has no module {name!r}")
    return importlib.import_module(home)


def __dir__() -> list[str]:
    return sorted(_homes())


@functools.cache
def _homes() -> dict[str, str]:
    """Every module by its name, those in the folders as well; a folder goes before its module."""
    homes = {}
    for folder in pkgutil.iter_modules(__path__):
        homes[folder.name] = f"{__name__}.{folder.name}"
        if folder.ispkg:
            inside = pkgutil.iter_modules([f"{path}/{folder.name}" for path in __path__])
            for module in inside:
                homes.setdefault(module.name, f"{homes[folder.name]}.{module.name}")
    return homes
