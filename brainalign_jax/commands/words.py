"""`brainalign embed`, `surprisal` and `cache`: vectors of a data set's words, and where they are kept."""

import csv
import io
import time
from pathlib import Path
from typing import Any

from brainalign_jax.commands.align import (
    DATA_DIR,
    DATASET,
    EMBEDDING,
    LANGUAGE,
    PROGRESS,
    READER_OPTIONS,
)
from brainalign_jax.commands.command import Command, shown_path
from brainalign_jax.commands.ending import Misuse
from brainalign_jax.embedding import EmbedOptions
from brainalign_jax.files import new_file, output_file, output_folder, spreadsheet_text
from brainalign_jax.options import Option, filled, options_of, picked

_MODELS = Option("models", "list", (), "Models: names, Hugging Face ids or folders.", "model")
_STIMULUS = (
    Option("dataset", "text", None, "Data set whose words are read.", "data"),
    Option("data_dir", "path", None, DATA_DIR.help, "data"),
    READER_OPTIONS,
    LANGUAGE,
)
_CACHE_DIR = Option(
    "cache_dir", "path", None,
    "Folder of the vectors; a study with --cache_dir=C has its own in C/embeddings.", "data", required=True,
)  # fmt: skip
_OPTIONS = options_of(EmbedOptions, "model")
_MACHINE = picked(_OPTIONS, "dtype", "layout", "batch_tokens", group="machine")
_ELSEWHERE = {option.name for option in (*EMBEDDING, *_MACHINE)}
_CHOSEN = tuple(option for option in _OPTIONS if option.name not in _ELSEWHERE)
_CONTEXT = tuple(option for option in EMBEDDING if option.name in ("context", "window", "bos"))
_KEEPING = (
    Option("list", "bool", False, "Show what the cache holds, each entry checked.", "cache"),
    Option(
        "clean", "bool", False,
        "Remove damaged entries and what interrupted extractions and writes left.", "cache",
    ),
    Option("remove", "list", (), "Names of entries to remove.", "cache"),
)  # fmt: skip
_EXTRACTION = (
    *_STIMULUS,
    _CACHE_DIR,
    _MODELS,
    *EMBEDDING,
    *_CHOSEN,
    Option(
        "surprisal",
        "path",
        None,
        "File (.csv) for each word's surprisal, from the same pass; causal models.",
        "model",
    ),
    *_MACHINE,
    PROGRESS,
)


def _words(values: dict[str, Any]):
    """The words of the data set; raises ValueError where it is not named."""
    from brainalign_jax.commands.align import open_data

    for name in ("dataset", "data_dir"):
        if values[name] is None:
            raise Misuse(f"--{name} is missing: models read the words of a data set")
    dataset = open_data({**values, "subjects": None})
    if dataset.spans is not None:
        raise Misuse("the items are spans of sentences: embed them with `embed_spans` from Python")
    return dataset.stimulus


def _embed(values: dict[str, Any], text: str) -> None:
    if not values["models"]:
        raise Misuse("--models is missing: name what the words are embedded with")
    output_folder(values["cache_dir"], "--cache_dir")
    if values["surprisal"] is not None:
        output_file(values["surprisal"], "--surprisal")
    stimulus = _words(values)
    surprisal: dict[str, object] = {}
    from brainalign_jax.language import embed

    chosen = (*EMBEDDING, *_CHOSEN, *_MACHINE)
    options = filled(EmbedOptions, chosen, values, surprisal=values["surprisal"] is not None)
    for model in values["models"]:
        begin = time.perf_counter()
        vectors = embed(
            stimulus, model, options, cache_dir=values["cache_dir"], progress=values["progress"]
        )
        layers, rows, width = vectors.values.shape
        print(
            f"{model}: {vectors.n_states} layers x {rows} words x {width}, "
            f"{time.perf_counter() - begin:.1f} s ({layers} of equal width)"
        )
        if vectors.surprisal is not None:
            surprisal[model] = vectors.surprisal
            write_surprisal(values["surprisal"], stimulus.words, surprisal)
            _say_surprisal(model, vectors.surprisal, values["surprisal"])


def _say_surprisal(model: str, values, path: Path) -> None:
    import numpy as np

    defined = int(np.isfinite(values).sum())
    print(f"{model}: surprisal of {defined} of {len(values)} words in {shown_path(path)}")


def write_surprisal(path: Path, words: tuple[str, ...], surprisal: dict) -> None:
    """A table of model, row, word, nats and bits, whole or not at all; empty where it is not defined.

    Models and words are written by `spreadsheet_text`, and read back by `plain_text`.
    """
    import numpy as np

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    quoting = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(("model", "row", "word", "nats", "bits"))
    for model, values in surprisal.items():
        for row, (word, nats) in enumerate(zip(words, values.tolist(), strict=True)):
            shown = ("", "") if np.isnan(nats) else (f"{nats:.6g}", f"{nats / np.log(2):.6g}")
            cells = (spreadsheet_text(model), row, spreadsheet_text(word), *shown)
            (quoting if "\r" in model + word else writer).writerow(cells)
    with new_file(path) as file:
        file.write(table.getvalue().encode())


def _surprisal(values: dict[str, Any], text: str) -> None:
    if not values["models"]:
        raise Misuse("--models is missing: name what finds the words more or less surprising")
    output_file(values["output"], "--output")
    stimulus = _words(values)
    from brainalign_jax.language import surprisal

    surprisals: dict[str, object] = {}
    passed = ("context", "window", "stride", "metric", "bos", "seed")
    for model in values["models"]:
        surprisals[model] = surprisal(stimulus, model, **{name: values[name] for name in passed})
        write_surprisal(values["output"], stimulus.words, surprisals)
        _say_surprisal(model, surprisals[model], values["output"])


def _cache(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.language.cache import EmbeddingCache

    cache = EmbeddingCache(values["cache_dir"])
    for name in values["remove"]:
        cache.remove(name)
        print(f"removed {name}")
    if values["clean"]:
        _clean(cache)
    if values["list"] or not (values["remove"] or values["clean"]):
        _show(cache)


def _clean(cache) -> None:
    faults = cache.faults()
    for entry in cache.entries():
        if entry.kind != "entry" or entry.name in faults:
            cache.remove(entry.name)
            print(f"removed {entry.name}")


def _show(cache) -> None:
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


def _extract(values: dict[str, Any], text: str) -> None:
    """What `experiments.extract_embeddings` does: embed, then look after the cache."""
    if not (values["models"] or values["remove"] or values["clean"] or values["list"]):
        raise Misuse("nothing to do: give --models, --list, --clean or --remove")
    if values["models"]:
        _embed(values, text)
    if values["remove"] or values["clean"] or values["list"]:
        _cache(values, text)


EMBED = Command(
    "embed",
    "vectors of a data set's words in every layer of models, kept in a folder",
    (
        "embed --dataset=alice --data_dir=data/alice --models=gpt2,bert-base --cache_dir=out/vectors",
        "embed --dataset=alice --data_dir=data/alice --models=gpt2 --cache_dir=out/vectors "
        "--surprisal=out/surprisal.csv",
        "embed --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base --context=word "
        "--cache_dir=out/vectors",
    ),
    _EXTRACTION,
    _embed,
)
SURPRISAL = Command(
    "surprisal",
    "how unexpected a data set's words are to models, as a table",
    (
        "surprisal --dataset=alice --data_dir=data/alice --models=gpt2 --output=out/surprisal.csv",
        "surprisal --dataset=alice --data_dir=data/alice --models=bert-base --output=out/surprisal.csv",
        "surprisal --dataset=alice --data_dir=data/alice --models=gpt2 --bos=never --context=window "
        "--output=out/surprisal.csv",
    ),
    (
        *_STIMULUS,
        Option("output", "path", None, "File (.csv) to write.", "data", required=True),
        _MODELS,
        *_CONTEXT,
        *picked(_OPTIONS, "stride"),
        Option(
            "metric",
            "choice",
            "within_word_l2r",
            "Of models of both directions: whether a sub-token sees those behind it in its word.",
            "model",
            ("within_word_l2r", "original"),
        ),
        *picked(_OPTIONS, "seed"),
    ),
    _surprisal,
    "nothing is written, and the same command begins anew",
)
CACHE = Command(
    "cache",
    "what a folder of word vectors holds, checked; removes damaged and interrupted entries",
    (
        "cache out/vectors",
        "cache out/alice/embeddings --clean",
        "cache out/vectors --remove=gpt2-0123",
    ),
    (
        Option(
            "cache_dir",
            "path",
            None,
            "Folder of the vectors.",
            "data",
            required=True,
            positional=True,
        ),
        *_KEEPING,
    ),
    _cache,
)
EXTRACT = Command(
    "extract_embeddings", EMBED.summary, EMBED.examples, (*_EXTRACTION, *_KEEPING), _extract
)
__all__ = ["CACHE", "DATASET", "EMBED", "EXTRACT", "SURPRISAL", "write_surprisal"]
