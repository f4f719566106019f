"""`brainalign figurative`: is what follows from an idiom or a metaphor nearer to it than what does not?"""

from typing import Any

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import Figurative

_PLAN = options_of(Figurative, align.PROTOCOL)
FIGURATIVE_OPTIONS = (
    Option(
        "data_dir",
        "path",
        None,
        "Folder of .tsv files, or of folders of them, of a sentence and a rewording a row without a header: "
        "..._e.tsv where it follows, ..._ne.tsv where it does not.",
        align.DATA,
        required=True,
    ),
    Option(
        "reference",
        "path",
        None,
        "Such a folder of literal sentences; if not given, rewordings of sentences with several that follow.",
        align.DATA,
    ),
    align.OUTPUT_DIR,
    align.MODELS,
    Option(
        "static",
        "path",
        None,
        "File of word vectors, whose mean is a sentence's vector.",
        align.MODEL,
    ),
    *picked(align.EMBEDDING, "bos"),
    *_PLAN,
    *align.VECTOR_CACHE,
    align.PROGRESS,
)


def _figurative(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.figurative import run_figurative

    with misuse():
        plan = filled(Figurative, _PLAN, values)
    passed = ("reference", "static", "bos", "cache_dir", "progress")
    table = run_figurative(
        values["data_dir"],
        values["models"],
        values["output_dir"],
        plan=plan,
        command=text,
        **{name: values[name] for name in passed},
    )
    say_finished(table.verdict(), values["output_dir"])


FIGURATIVE = Command(
    "figurative",
    "is what follows from an idiom or a metaphor nearer to it than what does not: by layer, with a verdict",
    (
        "figurative --data_dir=data/impli --models=bert-base --output_dir=out/figurative",
        "figurative --data_dir=data/impli --models=gpt2 --pooling=last --static=glove.txt "
        "--output_dir=out/figurative",
    ),
    FIGURATIVE_OPTIONS,
    _figurative,
    align.VECTORS_KEPT,
)
