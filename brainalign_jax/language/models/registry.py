"""Names of models and what they stand for."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class ModelSpec:
    """What a model name stands for.

    `name` is what the user typed; `kind` is "checkpoint", "untrained" or "static"; `source` is a
    hub id, a folder or a file of vectors; `family` is "bert", "gpt2", "opt", "static" or None
    until the config is read; `n_params` counts the encoder or decoder (no pooler, no
    language-model head), None where it is not known before loading.
    """

    name: str
    kind: str
    source: str
    family: str | None
    n_params: int | None


# The models of Li et al. 2023 (arXiv 2306.01930), smallest first in each family.
_KNOWN = tuple(
    ModelSpec(name, "checkpoint", source, family, n_params)
    for name, source, family, n_params in (
        ("bert-tiny", "google/bert_uncased_L-2_H-128_A-2", "bert", 4_369_408),
        ("bert-mini", "google/bert_uncased_L-4_H-256_A-4", "bert", 11_104_768),
        ("bert-small", "google/bert_uncased_L-4_H-512_A-8", "bert", 28_500_992),
        ("bert-medium", "google/bert_uncased_L-8_H-512_A-8", "bert", 41_110_528),
        ("bert-base", "google-bert/bert-base-uncased", "bert", 108_891_648),
        ("bert-large", "google-bert/bert-large-uncased", "bert", 334_092_288),
        ("gpt2", "openai-community/gpt2", "gpt2", 124_439_808),
        ("gpt2-medium", "openai-community/gpt2-medium", "gpt2", 354_823_168),
        ("gpt2-large", "openai-community/gpt2-large", "gpt2", 774_030_080),
        ("gpt2-xl", "openai-community/gpt2-xl", "gpt2", 1_557_611_200),
        ("opt-125m", "facebook/opt-125m", "opt", 125_239_296),
        ("opt-350m", "facebook/opt-350m", "opt", 331_196_416),
        ("opt-1.3b", "facebook/opt-1.3b", "opt", 1_315_758_080),
        ("opt-2.7b", "facebook/opt-2.7b", "opt", 2_651_596_800),
        ("opt-6.7b", "facebook/opt-6.7b", "opt", 6_658_473_984),
        ("opt-13b", "facebook/opt-13b", "opt", 12_853_473_280),
        ("opt-30b", "facebook/opt-30b", "opt", 29_974_540_288),
    )
)
# Ids without an owner, from before the hub had owners.
_OLD_IDS = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-large-uncased": "google-bert/bert-large-uncased",
}
_BY_NAME = {
    **{spec.source: spec for spec in _KNOWN},
    **{spec.name: spec for spec in _KNOWN},
}
_BY_NAME |= {old: _BY_NAME[new] for old, new in _OLD_IDS.items()}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")


def list_models() -> tuple[ModelSpec, ...]:
    """The models known by name, by family and size."""
    return _KNOWN


def resolve(name: str) -> ModelSpec:
    """What a model name stands for.

    `name`: a known name ("bert-base") or its hub id; any folder, or hub id "owner/name";
    "static:PATH", a file of word vectors; "untrained:MODEL", the architecture of MODEL with
    random weights. A known name wins over a folder of that name: write "./bert-base" for the
    folder. Nothing is read or downloaded. Raises ValueError on any other name, and lists the
    known ones.
    """
    if name.startswith("static:"):
        source = name.removeprefix("static:")
        if not source:
            raise ValueError("'static:' lacks the path of a vectors file, as static:glove.txt.")
        return ModelSpec(name, "static", source, "static", None)
    if name.startswith("untrained:"):
        trained = resolve(name.removeprefix("untrained:"))
        if trained.kind != "checkpoint":
            raise ValueError(
                f"{name!r}: only a checkpoint has an untrained twin; write untrained:MODEL, with "
                "MODEL a known name, a hub id or a folder."
            )
        return replace(trained, name=name, kind="untrained")
    if name in _BY_NAME:
        return replace(_BY_NAME[name], name=name)
    is_path = looks_like_folder(name) or (name and Path(name).is_dir())
    if is_path or _HUB_ID.fullmatch(name):
        return ModelSpec(name, "checkpoint", name, None, None)
    known = [spec.name for spec in _KNOWN]
    close = difflib.get_close_matches(name, known, n=1)
    raise ValueError(
        f"unknown model {name!r}"
        + (f" (did you mean {close[0]!r}?)" if close else "")
        + f"; known: {', '.join(known)}. Or give a folder, a hub id 'owner/name', static:PATH or "
        "untrained:MODEL."
    )


def looks_like_folder(source: str) -> bool:
    """Whether `source` can only be a path: no hub id starts so, or has two slashes."""
    return source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source
