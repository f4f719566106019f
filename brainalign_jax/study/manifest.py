"""What a table says of how it came about: data, models, choices, versions."""

import datetime
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from brainalign_jax import __version__
from brainalign_jax.language import Embeddings
from brainalign_jax.machine import package_version
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.context import Study
from brainalign_jax.study.protocol import Protocol

_PACKAGES = ("jax", "jaxlib", "flax", "transformers", "numpy", "nilearn", "scikit-learn")


def manifest(
    study: Study,
    models: Sequence[dict],
    subjects: dict[str, str],
    *,
    command: str,
    simulated: bool,
    notes: Sequence[str],
) -> dict:
    """The facts of a study that is scored, JSON-serialisable.

    models: the facts of each. subjects: the fingerprint of each one's recording. Else as of `run_study`.
    """
    dataset, scoring = study.dataset, study.scoring
    return {
        **made_by(command),
        "dataset": {"name": dataset.name, **dataset.meta},
        "simulated": simulated,
        "notes": list(notes),
        **{field.name: _plain(getattr(scoring, field.name)) for field in fields(scoring)},
        "report_k": study.k,
        "models": list(models),
        "computation": study.planned.fields() if study.planned else asdict(study.computation),
        "subjects": subjects,
        "stimulus": dataset.stimulus.fingerprint(attributes=False),
        **_language(dataset.stimulus),
        "n_words": len(dataset.stimulus),
        "n_types": len(dataset.stimulus.types(lower=scoring.lower)[0]),
    }


def made_by(command: str) -> dict:
    """By what command, where, when and by which versions a table is made."""
    return {
        "command": command,
        **({"working_folder": str(Path.cwd())} if command else {}),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }


def model_facts(vectors: Embeddings) -> dict:
    """The name and fingerprint of a model's vectors, and what they say of themselves."""
    return {"name": vectors.model, "fingerprint": vectors.fingerprint(), **vectors.meta}


def _language(stimulus: Stimulus) -> dict:
    """The language of the words, where it is known, and by what."""
    known = stimulus.known_language()
    said_by = "the data set" if stimulus.language else "its script"
    return {"language": {"code": known, "known_by": said_by}} if known else {}


def _plain(choice: object) -> object:
    if isinstance(choice, Protocol):
        return choice.fields()
    return list(choice) if isinstance(choice, tuple) else choice


def _versions() -> dict[str, str]:
    versions = {"brainalign_jax": __version__, "python": platform.python_version()}
    # One that is missing is no reason to lose what has been computed.
    versions |= {name: package_version(name) or "not installed" for name in _PACKAGES}
    return versions | {"platform": platform.platform(), "machine": platform.machine()}
