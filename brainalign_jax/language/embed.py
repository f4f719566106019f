"""Words to vectors: every layer of a language model, pooled to words on the device."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from brainalign_jax.embedding import Embedding, EmbedOptions
from brainalign_jax.files import user_path
from brainalign_jax.language import writing
from brainalign_jax.language.cache import EmbeddingCache
from brainalign_jax.language.embeddings import FERTILITY, Embeddings
from brainalign_jax.language.geometry import complaint, described, geometry
from brainalign_jax.language.hidden_states import extraction
from brainalign_jax.language.hidden_states.contextual import LONGEST, contextual_vectors
from brainalign_jax.language.hidden_states.head_vectors import check_size, n_layers_of
from brainalign_jax.language.hidden_states.streaming import Layers, LoadedLayers
from brainalign_jax.language.memory import device_bytes
from brainalign_jax.language.models import checkpoint, registry
from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.language.models.heads import load_head
from brainalign_jax.language.models.interventions import Specification, gates, parse, reinitialise
from brainalign_jax.language.models.registry import ModelSpec
from brainalign_jax.language.models.weights import sharding
from brainalign_jax.language.models.weights.gguf.header import is_gguf
from brainalign_jax.language.static import read_vectors
from brainalign_jax.language.text.tokens import load_tokenizer, tokenizer_files
from brainalign_jax.options import changed, takes_options
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.threads import check_not_forked

# Raised when the same settings give other vectors than before: entries of a cache made by an older
# version are then not found.
_VERSION = 2


@takes_options(EmbedOptions)
def embed(
    stimulus: Stimulus,
    model: str | ModelSpec,
    options: Embedding | None = None,
    *,
    interventions: str | Mapping | Specification | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | Callable[[float], None] = False,
    **changes: Any,
) -> Embeddings:
    """The vectors of a stimulus' words in every layer of a model.

    Args:
      model: a name of `list_models()`, a hub id, a checkpoint folder, "untrained:" and one of these
        (random weights from `seed`), or "static:" and a file of word vectors.
      options: those below in one object, `EmbedOptions` or a study's `Embedding`; what is also given by its
        name is changed in it.
      interventions: parts of the model switched off or drawn anew ("head:2.7,reinit-ffn:all"); see
        `interventions.parse`.
      cache_dir: vectors are kept there and read from there; an interrupted extraction goes on.
      progress: show a bar; or what is called with the share of the work that was done since the last call.
      OPTIONS

    Contexts are those of `contexts.texts_of`; of a window's and the growing context's words, those of the
    same run. Without a causal model's first token the first word of a text has a vector of many times the
    others' norm in the middle layers. Rows are as `stimulus.types(lower=lower)[0]`, without the tokens that
    have no letter or digit; with level="token" the N tokens. With sublayers, layer l is what that part of
    block l adds to the residual; a head, its outputs through its rows of the output projection; layer 0 is
    the embedding output. A word's surprisal, [N] over the words of the stimulus, is that of the text which
    its vector comes from, as by `language.surprisal` (divide by ln 2 for bits); also NaN for words longer
    than a text may be, or with pieces that the vocabulary lacks.

    A word's vector does not depend on batch_tokens and layout.

    Raises:
      ValueError: for unknown choices, a word without sub-tokens and whatever the loading of the model raises.
      TypeError: for an option that there is not, or an object that holds none.

    `checkpoint` is the folder of a BERT of 6 layers and width 384; a name as "bert-base" does as well:

    >>> import brainalign_jax as ba
    >>> stimulus = ba.Stimulus.from_words("The cat sat on the mat.".split())
    >>> vectors = ba.embed(stimulus, checkpoint, lower=True)
    >>> vectors.types
    ('the', 'cat', 'sat', 'on', 'mat')
    >>> vectors.values.shape
    (7, 5, 384)
    """
    check_not_forked()
    options = changed(EmbedOptions, options, changes, "embed()")
    specification = parse(interventions)
    level, lower, seed, revision = options.level, options.lower, options.seed, options.revision
    bos, missing, sublayers = options.bos, options.missing, options.sublayers
    types, token_to_type = stimulus.types(lower=lower)
    if level == "type" and not types:
        raise ValueError("no word of the stimulus has a letter or digit; use level='token'")

    spec = registry.resolve(model) if isinstance(model, str) else model
    cache = None if cache_dir is None else EmbeddingCache(user_path(cache_dir, "cache_dir"))
    rows = types if level == "type" else stimulus.words
    meta = {
        "kind": spec.kind,
        "source": spec.source,
        "level": level,
        "lower": bool(lower),
        "stimulus": stimulus.fingerprint(attributes=False),
    }
    if spec.kind == "static":
        if specification or sublayers:
            raise ValueError(f"{spec.name} has no parts: leave interventions and sublayers out")
        if options.surprisal:
            raise ValueError(f"{spec.name} predicts no words: leave surprisal out")
        static_vectors = _kept(
            cache,
            {"model": spec.name, "missing": missing, **meta, **_static_files(spec, cache)},
            lambda saver: _embed_static(spec, rows, meta, missing=missing, stimulus=stimulus),
        )
        return _told(static_vectors)
    untrained = spec.kind == "untrained"
    folder = checkpoint.locate(spec.source, revision=revision, weights=not untrained)
    config = checkpoint.read_architecture(folder, family=spec.family)
    if options.surprisal and not config.causal:
        raise ValueError(
            f"{spec.name} reads in both directions: its surprisal needs a pass for each sub-token; "
            "leave surprisal out and call language.surprisal(stimulus, model)"
        )
    if sublayers == "heads":
        check_size(config, len(rows), spec.name)
    longest = min(config.max_length, options.max_tokens or LONGEST)
    off = gates(specification, config)
    meta |= {
        "family": config.family,
        # A snapshot of the hub lies in a folder named by its commit.
        "revision": folder.name if folder.parent.name == "snapshots" else revision,
        "seed": int(seed) if untrained else None,
        "pooling": options.pooling,
        "context": options.context,
        "window": int(options.window) if options.context == "window" else None,
        "stride": int(options.stride) if options.context == "window" else None,
        "bos": bos if config.causal else None,
        "max_tokens": longest,
        "last": None if sublayers else options.last,
        "dtype": options.dtype,
    }
    # Only where there are any, so that fingerprints and entries of a cache stay as they were.
    meta |= {"interventions": str(specification)} if specification else {}
    meta |= {"sublayers": sublayers} if sublayers else {}
    meta |= {"n_heads": config.n_heads} if sublayers == "heads" else {}
    meta |= {"surprisal": "nats"} if options.surprisal else {}
    language = stimulus.language
    if not writing.only_spaces(stimulus.words, language):
        meta |= {
            "words_joined": "as their script does" if language is None else f"as in {language}"
        }
    meta |= {} if language is None else {"language": language}
    read_head = functools.partial(load_head, spec, seed=seed, revision=revision)

    def weights() -> str:
        return f"untrained, seed {seed}" if untrained else fingerprint_of(folder, cache)

    keyed = None if cache is None else weights()

    def check_weights() -> None:
        if keyed is not None and weights() != keyed:
            raise ValueError(
                f"the weights in {folder} were replaced after they were named in the cache; embed again"
            )

    def make(saver: extraction.Saver | None) -> Embeddings:
        tokenizer = load_tokenizer(folder, family=config.family)
        tokenizer = tokenizer.with_bos(bos, causal=config.causal)
        language_model = _load(
            spec, options.layout, dtype=options.dtype, seed=seed, revision=revision
        )
        check_weights()
        if specification.reinitialised:
            if not isinstance(language_model, LanguageModel):
                raise ValueError("streamed layers cannot be drawn anew; give layout='whole'")
            language_model = reinitialise(language_model, specification)
        vectors = contextual_vectors(
            stimulus,
            language_model,
            tokenizer,
            options,
            token_to_row=token_to_type if level == "type" else np.arange(len(stimulus)),
            interventions=off,
            read_head=read_head if options.surprisal else None,
            saver=saver,
            progress=progress if callable(progress) else spec.name if progress else None,
        )
        check_weights()
        more = {
            "n_params": int(language_model.n_params),
            "n_layers": n_layers_of(config, sublayers),
            "weights": weights(),
            "tokenizer": tokenizer.name,
            "first_token": tokenizer.first_token(),
            "unknown_words": vectors.n_unknown,
            FERTILITY: vectors.fertility,
        }
        values, final = vectors.values, vectors.final
        embeddings = Embeddings(spec.name, rows, values, final, meta | more, vectors.surprisal)
        return _with_geometry(embeddings, vectors.first)

    if cache is None:
        return _told(make(None))
    config_file = [] if is_gguf(folder) else [folder / "config.json"]  # it has no other files
    files = _digest_of_files([*config_file, *tokenizer_files(folder)])
    return _told(_kept(cache, {"model": spec.name, "weights": keyed, "files": files, **meta}, make))


def _with_geometry(vectors: Embeddings, first: np.ndarray | None = None) -> Embeddings:
    """The vectors with what `geometry` says of them in their meta."""
    layer_geometry = geometry([values for _, values in vectors.blocks()], first)
    about = described(layer_geometry, vectors.types)
    return dataclasses.replace(vectors, meta=vectors.meta | {"geometry": about})


def _told(vectors: Embeddings) -> Embeddings:
    """The vectors, with a warning where few words hold their geometry."""
    text = complaint(vectors.meta["geometry"], len(vectors.types))
    if text:
        first = vectors.meta.get("first_token", "")
        remedy = "; give bos='auto', which puts the model's first token there" * (first is None)
        warnings.warn(f"{vectors.model}: {text}{remedy}", stacklevel=3)
    return vectors


def _load(spec: ModelSpec, layout: str, **options: Any) -> LanguageModel | Layers:
    if spec.kind == "untrained":
        model = checkpoint.load_model(spec, **options)
        return LoadedLayers(model) if layout == "streamed" else model
    options.pop("seed")
    weights = checkpoint.open_weights(spec, **options)
    if layout == "auto":
        # Beside the weights there are activations, sums and what the compiled programs hold.
        needed = 1.5 * weights.n_params * weights.dtype.itemsize
        room = device_bytes()
        layout = "whole" if needed <= room else "streamed"
        if needed > room >= needed / jax.local_device_count():
            layout = "sharded"
    if layout == "streamed":
        return weights
    if layout == "sharded":
        weights.placement = sharding.over_devices()
    return weights.model()


def _kept(cache: EmbeddingCache | None, fields: dict, make) -> Embeddings:
    return make(None) if cache is None else cache.get({"version": _VERSION, **fields}, make)


def fingerprint_of(folder: Path, cache: EmbeddingCache | None) -> str:
    """`checkpoint.fingerprint`; with a cache, of files that were not touched it is remembered."""
    if cache is None:
        return checkpoint.fingerprint(folder)
    files = list(checkpoint.weight_files(folder))
    return cache.remember(folder, lambda: checkpoint.fingerprint(folder), files)


def _static_files(spec: ModelSpec, cache: EmbeddingCache | None) -> dict:
    path = Path(spec.source)
    if cache is None or not path.is_file():
        return {}
    return {"weights": cache.remember(path, lambda: _digest_of_files([path]), [path])}


def _digest_of_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            digest.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _embed_static(spec, rows, meta, *, missing, stimulus) -> Embeddings:
    words = rows
    if meta["level"] == "token":
        types, token_to_type = stimulus.types(lower=meta["lower"])
        words = [
            types[index] if index >= 0 else word
            for word, index in zip(rows, token_to_type, strict=True)
        ]
    vectors = read_vectors(spec.source, words, missing=missing)
    weights = hashlib.sha256(json.dumps(list(words)).encode())
    weights.update(np.ascontiguousarray(vectors.values, "<f4"))
    meta |= {
        "family": "static",
        "n_params": spec.n_params,
        "n_layers": 0,
        "revision": None,
        "weights": weights.hexdigest(),
        "seed": None,
        "tokenizer": None,
        "pooling": None,
        "context": "word",
        "window": None,
        "last": None,
        "unknown_words": len(vectors.missing),
    }
    return _with_geometry(Embeddings(spec.name, rows, vectors.values[None], None, meta))
