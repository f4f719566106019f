"""Word vectors of a data set's words from several models, kept in a cache; and what the cache holds.

    python -m experiments.extract_embeddings --models=gpt2,bert-base --dataset=alice \
        --data_dir=../shared/data/alice --cache_dir=out/vectors
    python -m experiments.extract_embeddings --models=gpt2,pythia-410m --dataset=alice \
        --data_dir=../shared/data/alice --cache_dir=out/vectors --surprisal=out/surprisal.csv
    python -m experiments.extract_embeddings --cache_dir=out/vectors --list
    python -m experiments.extract_embeddings --cache_dir=out/vectors --clean

A second call with the same settings reads the cache; after an interruption a call goes on at the last
saved batch. A study finds the vectors in OUTPUT_DIR/embeddings: give that folder as --cache_dir. With MiniLM
(7 layers), the 2,129 words of Alice take about 5 s on 2 cores, of which 2 s are one compilation.

--surprisal, of causal models: each word's surprisal from the same pass, kept with the vectors and written to
the table with columns model, row (of the stimulus, from 0), word, nats, bits; empty where it is not defined
(the first word of a text without a start token; with --level=type also words without a letter or digit).
"""

import csv
import io
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags, logging

from brainalign_jax.files import new_file
from brainalign_jax.language import embed
from brainalign_jax.language.cache import EmbeddingCache
from brainalign_jax.language.contexts import CONTEXTS
from brainalign_jax.language.embed import LAYOUTS
from brainalign_jax.language.packing import POOLINGS
from brainalign_jax.neural.readers import list_datasets, open_dataset

_MODELS = flags.DEFINE_list("models", [], "Models: names, Hugging Face ids or folders.")
_DATASET = flags.DEFINE_enum("dataset", None, list_datasets(), "Data set whose words are embedded.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the release's files.")
_CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Folder of the vectors.", required=True)
_CONTEXT = flags.DEFINE_enum("context", "sentence", CONTEXTS, "What the model reads of a word.")
_WINDOW = flags.DEFINE_integer("window", 20, "Preceding words with --context=window.")
_STRIDE = flags.DEFINE_integer("stride", 1, "Words read together with --context=window.")
_POOLING = flags.DEFINE_enum("pooling", "mean", POOLINGS, "How sub-tokens become one vector.")
_LEVEL = flags.DEFINE_enum("level", "type", ["type", "token"], "A vector a word type, or a word.")
_LOWER = flags.DEFINE_bool("lower", False, "Word types without regard to case.")
_LAST = flags.DEFINE_enum("last", "hf", ["hf", "raw"], "Last layer: as transformers', or raw.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16", "float16"], "Of weights and activations."
)
_SURPRISAL = flags.DEFINE_string(
    "surprisal", None, "File (.csv) for each word's surprisal, from the same pass; causal models."
)
_LAYOUT = flags.DEFINE_enum("layout", "auto", LAYOUTS, "How the model lies in the memory.")
_BATCH = flags.DEFINE_integer("batch_tokens", None, "Sub-tokens computed at once.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of untrained weights.")
_LIST = flags.DEFINE_bool("list", False, "Show what the cache holds, each entry checked.")
_CLEAN = flags.DEFINE_bool(
    "clean", False, "Remove damaged entries and what interrupted extractions and writes left."
)
_REMOVE = flags.DEFINE_list("remove", [], "Names of entries to remove.")
_PROGRESS = flags.DEFINE_bool("progress", True, "Show progress bars.")


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    cache = EmbeddingCache(_CACHE_DIR.value)
    try:
        if _MODELS.value:
            _extract()
        for name in _REMOVE.value:
            cache.remove(name)
        if _CLEAN.value:
            _clean(cache)
        if _LIST.value:
            _show(cache)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    if not (_MODELS.value or _REMOVE.value or _CLEAN.value or _LIST.value):
        raise app.UsageError("nothing to do: give --models, --list, --clean or --remove")


def _extract() -> None:
    if not (_DATASET.value and _DATA_DIR.value):
        raise ValueError("--models needs --dataset and --data_dir")
    stimulus = open_dataset(_DATASET.value, _DATA_DIR.value).stimulus
    surprisal: dict[str, np.ndarray] = {}
    for model in _MODELS.value:
        begin = time.perf_counter()
        vectors = embed(
            stimulus,
            model,
            context=_CONTEXT.value,
            window=_WINDOW.value,
            stride=_STRIDE.value,
            pooling=_POOLING.value,
            level=_LEVEL.value,
            lower=_LOWER.value,
            last=_LAST.value,
            surprisal=_SURPRISAL.value is not None,
            dtype=_DTYPE.value,
            layout=_LAYOUT.value,
            batch_tokens=_BATCH.value,
            seed=_SEED.value,
            cache_dir=_CACHE_DIR.value,
            progress=_PROGRESS.value,
        )
        layers, rows, width = vectors.values.shape
        print(
            f"{model}: {vectors.n_states} layers x {rows} words x {width}, "
            f"{time.perf_counter() - begin:.1f} s ({layers} of equal width)"
        )
        if vectors.surprisal is not None:
            surprisal[model] = vectors.surprisal
            _write_surprisal(Path(_SURPRISAL.value), stimulus.words, surprisal)
            defined = int(np.isfinite(vectors.surprisal).sum())
            print(f"{model}: surprisal of {defined} of {len(stimulus)} words in {_SURPRISAL.value}")


def _write_surprisal(path: Path, words: tuple[str, ...], surprisal: dict[str, np.ndarray]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("model", "row", "word", "nats", "bits"))
    for model, values in surprisal.items():
        for row, (word, nats) in enumerate(zip(words, values.tolist(), strict=True)):
            shown = ("", "") if np.isnan(nats) else (f"{nats:.6g}", f"{nats / np.log(2):.6g}")
            writer.writerow((model, row, word, *shown))
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        file.write(table.getvalue().encode())


def _clean(cache: EmbeddingCache) -> None:
    faults = cache.faults()
    for entry in cache.entries():
        if entry.kind != "entry" or entry.name in faults:
            cache.remove(entry.name)
            print(f"removed {entry.name}")


def _show(cache: EmbeddingCache) -> None:
    faults = cache.faults()
    for entry in cache.entries():
        about = faults.get(entry.name, "")
        if entry.kind == "entry" and not about:
            chosen = ("context", "pooling", "level", "dtype")
            about = ", ".join(str(entry.settings.get(name)) for name in chosen)
            about = f"{entry.model}, {entry.words} words, {about}"
            about += ", surprisal" if "surprisal" in entry.settings else ""
        state = "damaged" if entry.name in faults else entry.kind
        print(f"{entry.name}  {entry.n_bytes / 2**20:.1f} MiB  {state}  {about}")


if __name__ == "__main__":
    app.run(main)
