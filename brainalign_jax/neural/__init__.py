"""The brain side: recordings to one response vector a word. What is named here is imported when used."""

import importlib

_HOMES = {
    "downloads": ("fetch", "list_releases", "release_info"),
    "readers": ("Dataset", "list_datasets", "open_dataset", "register"),
    "readout": ("Processing", "word_responses"),
    "readout.cleaning": ("clean_runs",),
    "readout.kernels": ("apply_kernel", "check_timing", "covered_words", "word_kernel"),
    "recording": ("BoldRecording",),
    "responses": ("WordResponses", "intersubject_correlation"),
    "space": ("VoxelSpace",),
    "voxels": ("check_voxels",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
