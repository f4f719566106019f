"""Writes docs/api/*.rst, the pages of the API, from what the package's modules hold.

python docs/make_api.py

Every public name has one entry, under the name by which a user reaches it: a folder's `__all__` goes before
the module that it is written in. Docstrings are put in when the site is built.
"""

import inspect
from pathlib import Path
from types import ModuleType

import brainalign_jax as ba
import brainalign_jax.neural.readout
import brainalign_jax.neural.simulate
import brainalign_jax.studies.options

FOLDER = Path(__file__).with_name("api")
HEAD = ".. Written by `python docs/make_api.py`: change the docstrings, not this page.\n"

DOOR = {
    "Recordings": (
        "open_dataset", "list_datasets", "fetch", "register", "Dataset", "WordResponses", "export_kernels",
    ),
    "Words": ("Stimulus", "Spans"),
    "Models": (
        "embed", "embed_spans", "surprisal", "list_models", "Embedding", "EmbedOptions", "Embeddings",
    ),
    "Studies": (
        "run_study", "protocol", "Scoring", "EvidencePlan", "ResultTable", "register_method",
        "register_measure",
    ),
    "Estimators": ("RidgeAligner", "ProcrustesAligner", "BandedRidgeAligner"),
}  # fmt: skip
FOLDERS = ("procrustes", "ridge", "rsa", "similarity", "retrieval", "stats")


def pages() -> dict[str, str]:
    """Name of each page -> its text."""
    made = {"front_door": _front_door()}
    for name in FOLDERS:
        made[f"align_{name}"] = _align(name)
    made["align"] = _align_first()
    made["studies"] = _studies()
    made["options"] = _named("Options of studies", brainalign_jax.studies.options)
    made["simulate"] = _named(
        "Simulated recordings", brainalign_jax.neural.simulate, brainalign_jax.neural.readout
    )
    made["index"] = _index()
    return {name: f"{HEAD}\n{text.rstrip()}\n" for name, text in made.items()}


def defined(module: ModuleType) -> list[str]:
    """Public functions and classes that a module holds: those of its `__all__`, else those it defines."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if _documented(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and _documented(value)
        and getattr(value, "__module__", None) == module.__name__
    ]


def _documented(value) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _front_door() -> str:
    parts = [_title("The front door"), "``import brainalign_jax as ba``\n"]
    for heading, names in DOOR.items():
        parts.append(_title(heading, "-"))
        parts += [_entry(f"brainalign_jax.{name}", getattr(ba, name)) for name in names]
    return "\n".join(parts)


def _align_first() -> str:
    parts = [_title("ba.align"), ".. automodule:: brainalign_jax.align\n"]
    parts += [f"* :doc:`ba.align.{name} <align_{name}>`" for name in FOLDERS]
    parts.append("")
    alone = [name for name in dir(ba.align) if f".align.{name}" in getattr(ba.align, name).__name__]
    for name in sorted(set(alone) - set(FOLDERS)):
        parts.append(_module(getattr(ba.align, name), set()))
    return "\n".join(parts)


def _align(folder: str) -> str:
    package = getattr(ba.align, folder)
    inside = [
        module
        for name in dir(ba.align)
        if (module := getattr(ba.align, name)).__name__.startswith(f"{package.__name__}.")
    ]
    names = defined(package)
    told = {id(getattr(package, name)) for name in names}
    parts = [_title(f"ba.align.{folder}"), f".. automodule:: {package.__name__}\n"]
    parts += [_entry(f"{package.__name__}.{name}", getattr(package, name)) for name in names]
    for module in inside:
        parts.append(_module(module, told))
    return "\n".join(parts)


def _module(module: ModuleType, told: set[int], name: str | None = None) -> str:
    parts = [_title(name or _reached(module), "-"), f".. automodule:: {module.__name__}\n"]
    for name in defined(module):
        value = getattr(module, name)
        if id(value) not in told and value.__module__.startswith("brainalign_jax"):
            parts.append(_entry(f"{module.__name__}.{name}", value))
            told.add(id(value))
    return "\n".join(parts)


def _reached(module: ModuleType) -> str:
    """`ba.align.polar` for brainalign_jax.align.procrustes.polar."""
    return f"ba.align.{module.__name__.rpartition('.')[2]}"


def _studies() -> str:
    parts = [_title("ba.studies"), ".. automodule:: brainalign_jax.studies\n"]
    for name in dir(ba.studies):
        package = getattr(ba.studies, name)
        parts.append(_module(package, set(), f"ba.studies.{name}"))
        for inner in getattr(package, "__all__", ()):
            value = getattr(package, inner)
            if inspect.ismodule(value):
                parts.append(_module(value, set(), f"ba.studies.{name}.{inner}"))
    return "\n".join(parts)


def _named(title: str, *modules: ModuleType) -> str:
    parts = [_title(title)]
    told: set[int] = set()
    for module in modules:
        parts.append(_module(module, told, module.__name__))
    return "\n".join(parts)


def _index() -> str:
    pages = ["front_door", "studies", "options", "simulate", "align"]
    pages += [f"align_{name}" for name in FOLDERS]
    text = "Every public name, once, with what its docstring says. Arrays have their shapes in brackets.\n"
    tree = "\n".join(f"   {page}" for page in pages)
    return f"{_title('API')}\n{text}\n.. toctree::\n   :maxdepth: 1\n\n{tree}\n"


def _entry(path: str, value) -> str:
    if not inspect.isclass(value):
        return f".. autofunction:: {path}\n"
    named_tuple = issubclass(value, tuple) and hasattr(value, "_fields")
    members = "" if named_tuple else "   :members:\n"
    return f".. autoclass:: {path}\n{members}"


def _title(text: str, sign: str = "=") -> str:
    return f"{text}\n{sign * len(text)}\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.rst"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / f"{name}.rst").write_text(text, "utf-8")
