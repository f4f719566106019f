"""`brainalign languages`: does it hold for people who heard another language?"""

from typing import Any

from brainalign_jax.commands import align
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import Misuse, misuse
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import Languages
from brainalign_jax.study.options import Scoring

_METHODS = ("ridge", "procrustes")
_PLAN = options_of(Languages, align.PROTOCOL)
_SCORING = (
    *picked(
        align.SCORING, "methods", default=_METHODS, help="What to score with: ridge, procrustes."
    ),
    *picked(
        align.SCORING,
        "ks",
        default=(1, 3),
        help="The k of precision@k, below the words of a section.",
    ),
    *picked(align.SCORING, "layers", "lower"),
    *align.DRAW_SEED,
)

LANGUAGES_OPTIONS = (
    Option(
        "data_dirs",
        "paths",
        None,
        "Languages (ISO 639-1) and the folders of their data sets, as en=DIR,fr=DIR.",
        align.DATA,
        required=True,
    ),
    Option(
        "dataset",
        "text",
        None,
        "Data set to read, the same for all languages but those of --datasets; `brainalign datasets` lists "
        "them.",
        align.DATA,
    ),
    Option("datasets", "pairs", (), "Data sets of single languages, as zh=smn4lang.", align.DATA),
    *picked(
        (align.READER_OPTIONS,),
        "reader_options",
        help="Reader options as name=value, each for the data sets that have it.",
    ),
    align.OUTPUT_DIR,
    *picked(
        (align.MODELS,),
        "models",
        help="Models of several languages, by name, Hugging Face id or folder; untrained:MODEL is the same "
        "architecture with random weights, static:FILE a file of word vectors.",
    ),
    Option(
        "model_languages",
        "pairs",
        (),
        "Languages of the models as MODEL=fr, to compare models of the people's language with others.",
        align.MODEL,
    ),
    *align.EMBEDDING,
    *_SCORING,
    *_PLAN,
    *align.VECTOR_STUDY,
)


def _open(values: dict[str, Any]) -> list:
    """The data set of each language."""
    from brainalign_jax.neural.readers import open_dataset
    from brainalign_jax.scripts import check_language

    folders, named = values["data_dirs"], dict(values["datasets"] or {})
    options = dict(values["reader_options"] or {})
    if "language" in options:
        raise Misuse("--reader_options=language: --data_dirs names the languages; leave it out")
    with misuse():
        for language in (*folders, *named):
            check_language(language)
    for language in named:
        if language not in folders:
            raise Misuse(f"--datasets={language}={named[language]} has no folder in --data_dirs")
    readers = {language: named.get(language, values["dataset"]) for language in folders}
    for language, name in readers.items():
        if name is None:
            raise Misuse(
                f"no data set is named for {language}: give --dataset, or --datasets={language}=NAME"
            )
    converted = align.shared_reader_options(readers.values(), options)
    return [
        open_dataset(name, folders[language], language=language, **converted[name])
        for language, name in readers.items()
    ]


def _languages(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.languages.languages import check_choices, run_languages

    model_languages = dict(values["model_languages"] or {})
    with misuse():
        plan = filled(Languages, _PLAN, values)
        scoring = filled(Scoring, _SCORING, values)
        check_choices(values["models"], scoring.methods, model_languages)
    table = run_languages(
        _open(values),
        values["models"],
        values["output_dir"],
        plan=plan,
        scoring=scoring,
        model_languages=model_languages,
        **align.study_arguments(values, text),
    )
    say_finished(table.verdict(), values["output_dir"])


LANGUAGES = Command(
    "languages",
    "does it hold for people of another language than it was fitted on, with a verdict",
    (
        "languages --dataset=little_prince --data_dirs=en=data/prince,fr=data/prince,zh=data/prince "
        "--section=run --models=bert-base-multilingual-cased --output_dir=out/languages",
    ),
    LANGUAGES_OPTIONS,
    _languages,
    align.VECTORS_KEPT,
)
