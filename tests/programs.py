"""Kernels as one program each: called eagerly, every operation of theirs is compiled by itself, in 20 ms."""

import inspect
from types import ModuleType, SimpleNamespace

import jax


def compiled(module: ModuleType) -> SimpleNamespace:
    """The functions that a module of kernels offers, each one program; keyword-only arguments are static.

    Eagerly they are called by the examples of their docstrings, which the tests run.
    """
    return SimpleNamespace(**{name: _compiled(getattr(module, name)) for name in module.__all__})


def _compiled(function):
    if not inspect.isfunction(function):
        return function
    parameters = inspect.signature(function).parameters.values()
    static = [choice.name for choice in parameters if choice.kind is choice.KEYWORD_ONLY]
    return jax.jit(function, static_argnames=static)
