"""Names of models and what they stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from brainalign_jax.files import user_path
from brainalign_jax.names import expanded, unknown


@dataclass(frozen=True)
class ModelSpec:
    """What a model name stands for.

    `name` is what the user typed; `kind` is "checkpoint", "untrained" or "static"; `source` is a
    hub id, or the absolute path of a folder, a GGUF file or a file of vectors, with "@revision" where
    the user named one; `family` is the `model_type` of the config ("bert", "gpt2", ...), "static", or
    None until the config is read; `n_params` counts the encoder or decoder (no pooler, no
    language-model head), None where it is not known before loading.
    """

    name: str
    kind: str
    source: str
    family: str | None
    n_params: int | None


# What users expect beside the models of Li et al. 2023.
_MORE = (
    ("roberta-base", "FacebookAI/roberta-base", "roberta", 124_055_040),
    ("roberta-large", "FacebookAI/roberta-large", "roberta", 354_310_144),
    ("distilbert", "distilbert/distilbert-base-uncased", "distilbert", 66_362_880),
    ("gpt-neo-125m", "EleutherAI/gpt-neo-125m", "gpt_neo", 125_198_592),
    ("gpt-neo-1.3b", "EleutherAI/gpt-neo-1.3B", "gpt_neo", 1_315_575_808),
    ("gpt-neo-2.7b", "EleutherAI/gpt-neo-2.7B", "gpt_neo", 2_651_307_520),
    ("pythia-70m", "EleutherAI/pythia-70m", "gpt_neox", 44_670_976),
    ("pythia-160m", "EleutherAI/pythia-160m", "gpt_neox", 123_689_472),
    ("pythia-410m", "EleutherAI/pythia-410m", "gpt_neox", 353_822_720),
    ("pythia-1b", "EleutherAI/pythia-1b", "gpt_neox", 908_759_040),
    ("pythia-1.4b", "EleutherAI/pythia-1.4b", "gpt_neox", 1_311_625_216),
    ("pythia-2.8b", "EleutherAI/pythia-2.8b", "gpt_neox", 2_646_430_720),
    ("pythia-6.9b", "EleutherAI/pythia-6.9b", "gpt_neox", 6_650_732_544),
    ("pythia-12b", "EleutherAI/pythia-12b", "gpt_neox", 11_586_549_760),
    ("llama-2-7b", "meta-llama/Llama-2-7b-hf", "llama", 6_607_343_616),
    ("llama-3.1-8b", "meta-llama/Llama-3.1-8B", "llama", 7_504_924_672),
    ("llama-3.2-1b", "meta-llama/Llama-3.2-1B", "llama", 1_235_814_400),
    ("llama-3.2-3b", "meta-llama/Llama-3.2-3B", "llama", 3_212_749_824),
    ("mistral-7b", "mistralai/Mistral-7B-v0.1", "mistral", 7_110_660_096),
    ("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", "qwen2", 494_032_768),
    ("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B", "qwen2", 1_543_714_304),
    ("qwen2.5-7b", "Qwen/Qwen2.5-7B", "qwen2", 7_070_619_136),
    ("qwen3-0.6b", "Qwen/Qwen3-0.6B-Base", "qwen3", 596_049_920),
    ("qwen3-1.7b", "Qwen/Qwen3-1.7B-Base", "qwen3", 1_720_574_976),
    ("qwen3-8b", "Qwen/Qwen3-8B-Base", "qwen3", 7_568_405_504),
)
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
        *_MORE,
    )
)
# Ids without an owner, from before the hub had owners.
_OLD_IDS = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-large-uncased": "google-bert/bert-large-uncased",
    "distilbert-base-uncased": "distilbert/distilbert-base-uncased",
}
_BY_NAME = {
    **{spec.source: spec for spec in _KNOWN},
    **{spec.name: spec for spec in _KNOWN},
}
_BY_NAME |= {old: _BY_NAME[new] for old, new in _OLD_IDS.items()}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")


def list_models() -> tuple[ModelSpec, ...]:
    """The models known by name, by family and size.

    >>> import brainalign_jax as ba
    >>> [model.name for model in ba.list_models() if model.family == "gpt2"]
    ['gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl']
    """
    return _KNOWN


def resolve(name: str) -> ModelSpec:
    """What a model name stands for.

    `name`: a known name ("bert-base") or its hub id; any folder, GGUF file, or hub id "owner/name";
    "static:PATH", a file of word vectors; "untrained:MODEL", the architecture of MODEL with
    random weights. "MODEL@REVISION" is a branch, tag or commit of the hub repository (or of a
    folder of the hub's cache). A known name wins over a folder of that name: write "./bert-base" for the
    folder. A relative path starts from the working folder of this call. Nothing is read or
    downloaded. Raises ValueError on any other name, with the nearest known ones.
    """
    if name.startswith("static:"):
        source = name.removeprefix("static:")
        if not source.strip():
            raise ValueError("'static:' lacks the path of a vectors file, as static:glove.txt.")
        return ModelSpec(
            name,
            "static",
            str(user_path(source, "static:", "a file of word vectors")),
            "static",
            None,
        )
    if name.startswith("untrained:"):
        trained = resolve(name.removeprefix("untrained:"))
        if trained.kind != "checkpoint":
            raise ValueError(
                f"{name!r}: only a checkpoint has an untrained twin; write untrained:MODEL, with "
                "MODEL a known name, a hub id or a folder."
            )
        return replace(trained, name=name, kind="untrained")
    if len(expanded([name])) > 1:
        raise ValueError(f"{name!r} stands for several models: name one of them here.")
    (name,) = expanded([name])
    model, revision = split_revision(name)
    if revision is not None:
        spec = resolve(model)
        return replace(spec, name=name, source=f"{spec.source}@{revision}")
    if name in _BY_NAME:
        return replace(_BY_NAME[name], name=name)
    is_file = name.endswith(".gguf")
    if looks_like_folder(name) or is_file or (name.strip() and Path(name).is_dir()):
        return ModelSpec(name, "checkpoint", str(user_path(name, "model")), None, None)
    if _HUB_ID.fullmatch(name):
        return ModelSpec(name, "checkpoint", name, None, None)
    names = (*(spec.name for spec in _KNOWN), *_OLD_IDS)
    raise ValueError(
        unknown("model", name, names, listing="`brainalign models`")
        + "; or give a folder, a GGUF file, a hub id 'owner/name', static:FILE or untrained:MODEL"
    )


def split_revision(source: str) -> tuple[str, str | None]:
    """A model and the revision that follows its "@", None without one or where a folder has that
    name.

    >>> split_revision("EleutherAI/pythia-70m@step1000")
    ('EleutherAI/pythia-70m', 'step1000')

    Raises: ValueError where the revision, or the model before it, is empty.
    """
    model, at, revision = source.rpartition("@")
    if not at or user_path(source, "model").is_dir():
        return source, None
    if source.startswith((".", "/", "~")) and not user_path(model, "model").is_dir():
        return source, None  # the "@" is part of a path
    if not model.strip() or not revision.strip():
        raise ValueError(f"{source!r}: write MODEL@REVISION, as pythia-70m@step1000.")
    return model, revision


def looks_like_folder(source: str) -> bool:
    """Whether `source` can only be a path: no hub id starts so, or has two slashes."""
    return source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source
