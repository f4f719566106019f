"""Words to vectors: every layer of a language model, pooled to words on the device."""

from __future__ import annotations

import hashlib
import json
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.language import contexts
from brainalign_jax.language.embeddings import Embeddings
from brainalign_jax.language.models import checkpoint, registry
from brainalign_jax.language.models.registry import ModelSpec
from brainalign_jax.language.models.transformer import LanguageModel, hidden_states
from brainalign_jax.language.static import read_vectors
from brainalign_jax.language.tokens import WordTokenizer, load_tokenizer
from brainalign_jax.stimulus import Stimulus


def embed(
    stimulus: Stimulus,
    model: str | ModelSpec,
    *,
    context: str = "sentence",
    window: int = 20,
    pooling: str = "mean",
    level: str = "type",
    lower: bool = False,
    last: str = "hf",
    batch_size: int = 32,
    seed: int = 0,
    revision: str | None = None,
    missing: str = "error",
    progress: bool = False,
) -> Embeddings:
    """The vectors of a stimulus' words in every layer of a model.

    model: a name of `list_models()`, a hub id, a checkpoint folder, "untrained:" and one of these
        (random weights from `seed`), or "static:" and a file of word vectors.
    context: "sentence", "window" (the `window` words before it, within the run) or "word" alone;
        see `contexts.texts_of`. Sub-tokens of a word: `tokens`.
    pooling: "mean", "first" or "last" of the word's sub-tokens.
    level: "type" averages the occurrences, rows as `stimulus.types(lower=lower)[0]`, tokens without
        a letter or digit left out; "token" gives the N tokens.
    last: "hf", the last layer as transformers gives it; "raw", the output of the last block.
    batch_size: texts of up to 128 sub-tokens in a batch; fewer of longer ones.
    missing: what a word without a static vector does: "error", or "zero" for a vector of zeros.

    A word's vector does not depend on batch_size. Raises ValueError for unknown options, a word
    without sub-tokens and whatever the loading of the model raises.
    """
    _check_choice("context", context, contexts.CONTEXTS)
    _check_choice("pooling", pooling, contexts.POOLINGS)
    _check_choice("level", level, ("type", "token"))
    _check_choice("last", last, ("hf", "raw"))
    _check_choice("missing", missing, ("error", "zero"))
    for name, value, least in (("window", window, 0), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name}={value!r}; give an integer of at least {least}")
    types, token_to_type = stimulus.types(lower=lower)
    if level == "type" and not types:
        raise ValueError("no word of the stimulus has a letter or digit; use level='token'")

    spec = registry.resolve(model) if isinstance(model, str) else model
    meta = {
        "kind": spec.kind,
        "source": spec.source,
        "level": level,
        "lower": bool(lower),
        "stimulus": stimulus.fingerprint(),
    }
    rows = types if level == "type" else stimulus.words
    if spec.kind == "static":
        return _embed_static(spec, rows, meta, missing=missing, stimulus=stimulus)

    untrained = spec.kind == "untrained"
    folder = checkpoint.locate(spec.source, revision=revision, weights=not untrained)
    family = checkpoint.read_architecture(folder, family=spec.family).family
    tokenizer = load_tokenizer(folder, family=family)
    language_model = checkpoint.load_model(spec, seed=seed, revision=revision)
    vectors = contextual_vectors(
        stimulus,
        language_model,
        tokenizer,
        context=context,
        window=int(window),
        pooling=pooling,
        token_to_row=token_to_type if level == "type" else np.arange(len(stimulus)),
        lower=lower,
        last=last,
        batch_size=int(batch_size),
        progress=spec.name if progress else None,
    )
    meta |= {
        "family": family,
        "n_params": int(language_model.n_params),
        "n_layers": int(language_model.n_layers),
        # A snapshot of the hub lies in a folder named by its commit.
        "revision": folder.name if folder.parent.name == "snapshots" else revision,
        "weights": f"untrained, seed {seed}" if untrained else checkpoint.fingerprint(folder),
        "seed": int(seed) if untrained else None,
        "tokenizer": tokenizer.name,
        "pooling": pooling,
        "context": context,
        "window": int(window) if context == "window" else None,
        "last": last,
        "unknown_words": vectors.n_unknown,
    }
    return Embeddings(spec.name, rows, vectors.values, vectors.final, meta)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r} is not known; use one of {', '.join(known)}")


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
    return Embeddings(spec.name, rows, vectors.values[None], None, meta)


class ContextualVectors(NamedTuple):
    """values: [L, rows, D] float32; final: [rows, D_final] or None; n_unknown: how many tokens have
    a piece that the vocabulary lacks."""

    values: np.ndarray
    final: np.ndarray | None
    n_unknown: int


def contextual_vectors(
    stimulus: Stimulus,
    model: LanguageModel,
    tokenizer: WordTokenizer,
    *,
    context: str,
    window: int,
    pooling: str,
    token_to_row: np.ndarray,
    lower: bool,
    last: str,
    batch_size: int,
    progress: str | None = None,
) -> ContextualVectors:
    """`embed` for a loaded model. Row r is the mean over the tokens with token_to_row [N] == r;
    tokens at -1 are left out. progress: the label of a progress bar."""
    texts = contexts.texts_of(
        stimulus, token_to_row >= 0, context=context, window=window, lower=lower
    )
    sequences = contexts.encode_texts(tokenizer, texts, max_length=model.max_length)
    n_unknown = _count_unknown(stimulus, sequences, tokenizer)
    counts = np.bincount(token_to_row[token_to_row >= 0])
    sums: list[np.ndarray | None] = [None, None]
    work = contexts.batches(
        sequences,
        max_length=model.max_length,
        batch_size=batch_size,
        pooling=pooling,
        pad_id=tokenizer.pad_id,
    )
    bar = None
    if progress is not None:
        from tqdm.auto import tqdm

        bar = tqdm(total=len(sequences.ids), desc=progress, unit="text")
    for batch in work:
        out = hidden_states(model, batch.ids, batch.mask, last=last)
        for index, states in enumerate(
            (out.states, None if out.final is None else out.final[None])
        ):
            if states is None:
                continue
            pooled = np.asarray(_pool(states, batch.weights))[:, batch.sequence, batch.slot]
            if sums[index] is None:
                sums[index] = np.zeros((len(pooled), len(counts), pooled.shape[-1]), np.float32)
            for position, token in enumerate(batch.row):
                sums[index][:, token_to_row[token]] += pooled[:, position]
        if bar is not None:
            bar.update(len(np.unique(batch.sequence)))
    if bar is not None:
        bar.close()
    values, final = (
        None if total is None else total / counts[:, None].astype(np.float32) for total in sums
    )
    return ContextualVectors(values, None if final is None else final[0], n_unknown)


@jax.jit
def _pool(states: jax.Array, weights: jax.Array) -> jax.Array:
    """states [S, B, T, D], weights [B, W, T] → [S, B, W, D] float32."""
    # Padding positions have weight zero and finite states, so they add nothing.
    return jnp.einsum(
        "bwt,sbtd->sbwd", weights, states.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST
    )


def _count_unknown(
    stimulus: Stimulus, sequences: contexts.Sequences, tokenizer: WordTokenizer
) -> int:
    if tokenizer.unknown_id is None:
        return 0
    unknown = [
        row
        for ids, targets in zip(sequences.ids, sequences.targets, strict=True)
        for rows, tokens in targets
        if (ids[list(tokens)] == tokenizer.unknown_id).any()
        for row in rows
    ]
    if unknown:
        words = list(dict.fromkeys(stimulus.words[row] for row in unknown))
        shown = ", ".join(repr(word[:40]) for word in words[:5])
        warnings.warn(
            f"{len(unknown)} word tokens ({shown}{', ...' if len(words) > 5 else ''}) are not in "
            "the tokenizer's vocabulary: they share the vector of its unknown token",
            stacklevel=4,
        )
    return len(unknown)
