"""How words become vectors: what decides the vectors of `language.embed`, said once.

Light to import: commands make their options of these before anything heavy is loaded.
"""

from brainalign_jax.options import described, option_class


@option_class
class Embedding:
    """How words become vectors in a study: options of `language.embed`.

    >>> import brainalign_jax as ba
    >>> ba.Embedding(context="word").pooling  # run_study(..., embedding=ba.Embedding(context="word"))
    'mean'
    """

    context: str = described(
        "What the model reads of a word: its sentence, a window of preceding words, the run from its start "
        "(growing), or the word alone.",
        "sentence",
        choices=("sentence", "window", "growing", "word"),
    )
    window: int = described("Preceding words with context=window.", 20, least=0, most=100_000)
    bos: str = described(
        "The model's first token (BOS) before each text, never pooled: auto, where a causal model's "
        "tokenizer puts nothing there (not under the paper's protocol, as in its code); always; or never.",
        "auto",
        choices=("auto", "always", "never"),
    )
    pooling: str = described(
        "How a word's sub-tokens become one vector.", "mean", choices=("mean", "first", "last")
    )
    last: str = described(
        "Last layer as transformers gives it (hf), or the last block's output (raw).",
        "hf",
        choices=("hf", "raw"),
    )
    missing: str = described(
        "What a word that static vectors lack does.", "error", choices=("error", "zero")
    )
    sublayers: str | None = described(
        "In place of the blocks' outputs what attention, feed_forward or each of the attention heads adds to "
        "the residual; with heads, layer 1 + b H + h is head h of block b of H heads, both from 0.",
        None,
        choices=("attention", "feed_forward", "heads"),
    )


@option_class
class EmbedOptions(Embedding):
    """Options of `language.embed`: the model's reading, its vectors, and how they are computed.

    >>> import brainalign_jax as ba
    >>> options = ba.EmbedOptions(context="word", lower=True)  # ba.embed(stimulus, model, options)
    >>> options.level
    'type'
    """

    stride: int = described(
        "Words read together after their window, with context=window: a causal model then reads each "
        "sub-token about 1 + window / stride times instead of 1 + window times.",
        1,
        least=1,
        most=100_000,
    )
    level: str = described(
        "A vector a word type, the mean of its occurrences; or a vector a word.",
        "type",
        choices=("type", "token"),
    )
    lower: bool = described("Word types without regard to case.", False)
    surprisal: bool = described(
        "Each word's surprisal in nats from the same pass of a causal model, in `Embeddings.surprisal`; NaN "
        "for words without a vector or without anything before them in their text.",
        False,
        flag="",
    )
    seed: int = described("Seed of untrained weights.", 0, least=0)
    revision: str | None = described(
        "Branch, tag or commit of a model of the hub; in a name, as MODEL@REVISION.", None, flag=""
    )
    max_tokens: int | None = described(
        "The longest text in sub-tokens; what the model takes, at most 4096, if not given.",
        None,
        least=1,
    )
    dtype: str = described(
        "Of weights and activations; pooling is in float32.",
        "float32",
        choices=("float32", "bfloat16", "float16"),
    )
    layout: str = described(
        "How the model lies in the memory: on one device (whole), on all of this process (sharded), a layer "
        "at a time from the files (streamed), or the first of these that fits (auto).",
        "auto",
        choices=("auto", "whole", "sharded", "streamed"),
    )
    batch_tokens: int | None = described(
        "Sub-tokens computed at once; about 2048 on a CPU, 16384 elsewhere, if not given.",
        None,
        least=1,
    )
