"""Numerics: pure functions on one problem, batched from outside with `vmap`."""
