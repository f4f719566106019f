"""`brainalign fetch`, `datasets` and `models`: what there is, and how to get it."""

from typing import Any

from brainalign_jax.commands.command import Command
from brainalign_jax.commands.ending import Misuse, misuse
from brainalign_jax.names import check_known, unknown
from brainalign_jax.options import Option

_NAME = "name"


def _fetch(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.neural.downloads.fetching import fetch
    from brainalign_jax.neural.downloads.releases import list_releases, release_info

    if values[_NAME] in (None, "list"):
        print("\n".join(release_info(name).describe() for name in list_releases()))
        return
    with misuse():
        release_info(values[_NAME])
    passed = ("subjects", "stories", "progress", "offline", "verify", "timeout", "retries")
    folder = fetch(values[_NAME], values["data_dir"], **{name: values[name] for name in passed})
    print(folder)


def _datasets(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.neural.catalog import dataset_names

    name = values[_NAME]
    if name is None:
        print("\n".join(dataset_names()))
        print(
            "\n`brainalign datasets NAME` lists a data set's options; `brainalign fetch` downloads."
        )
        return
    with misuse():
        check_known("data set", name, dataset_names())
    from brainalign_jax.neural.readers.options import describe_options

    for option in describe_options(name):
        default = f" [{option.default}]" if option.default else ""
        print(f"{option.name}: {option.type}{default}\n    {option.help}".rstrip())
    print("\nAs --reader_options=NAME=VALUE,NAME=VALUE, or as arguments of ba.open_dataset.")


def _models(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.language.models.registry import list_models

    specs = list_models()
    wanted = values[_NAME]
    if wanted is not None:
        near = [spec for spec in specs if spec.family == wanted or wanted.lower() in spec.name]
        specs = tuple(near) or specs
        if len(specs) == len(list_models()):
            names = [spec.name for spec in specs]
            raise Misuse(unknown("model", wanted, names, listing="`brainalign models`"))
    for spec in specs:
        size = "" if spec.n_params is None else f"{spec.n_params / 1e6:,.0f} M"
        print(f"{spec.name:<14} {spec.family or '':<11} {size:>9}  {spec.source}")


FETCH = Command(
    "fetch",
    "download a public release of recordings, once and verified",
    (
        "fetch harry_potter --subjects=1,2 --data_dir=data",
        "fetch lebel2023 --subjects=UTS01,UTS02 --stories=souls,adollshouse",
        "fetch",
    ),
    (
        Option(
            _NAME,
            "text",
            None,
            "Release; without one, or with `list`, what there is.",
            positional=True,
        ),
        Option(
            "data_dir",
            "path",
            None,
            "Folder in which the release's folder is made; by default $BRAINALIGN_DATA.",
        ),
        Option("subjects", "list", None, "Subjects; all if not given."),
        Option(
            "stories",
            "list",
            None,
            "Stories, of a release that has a file for each; all if not given.",
        ),
        Option(
            "offline",
            "bool",
            None,
            "Try no connection, only verify what is there. Default: $BRAINALIGN_OFFLINE.",
        ),
        Option("verify", "bool", False, "Read all files again, also unchanged ones."),
        Option(
            "timeout",
            "float",
            30.0,
            "Seconds without a byte before a connection is given up.",
            above=0.0,
            most=86400.0,
        ),
        Option(
            "retries", "int", 3, "Further tries after one that brought nothing.", least=0, most=1000
        ),
        Option("progress", "bool", True, "Show progress bars."),
    ),
    _fetch,
)
DATASETS = Command(
    "datasets",
    "the data sets and formats that can be read, and the options of each",
    ("datasets", "datasets alice", "datasets bids"),
    (
        Option(
            _NAME, "text", None, "Data set whose options are shown; all names if not given.",
            positional=True,
        ),
    ),
    _datasets,
)  # fmt: skip
MODELS = Command(
    "models",
    "the models known by name; any Hugging Face id or folder of these families works too",
    ("models", "models gpt2", "models llama"),
    (
        Option(
            _NAME, "text", None, "A family, or a part of a name; all if not given.", positional=True
        ),
    ),
    _models,
)
