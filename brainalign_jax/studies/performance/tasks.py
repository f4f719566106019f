"""What models can do: tables of model, task, value, and the output files of lm-evaluation-harness."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign_jax.names import unknown
from brainalign_jax.studies.performance.matching import model_name
from brainalign_jax.studies.performance.table_files import (
    is_table,
    number_of,
    numbers,
    read_json,
    read_table,
    shown,
    texts,
)
from brainalign_jax.study.report.wording import first_few

COLUMNS = (
    "model", "step", "task", "metric", "value", "stderr", "direction", "family", "n_params", "width",
    "reads", "name", "source",
)  # fmt: skip
_FILES = 5000
_SHOWN = 10  # tasks that a note names
# Words of the names of metrics, or of tasks by themselves, of which less is better: in any place, or last.
_LOSSES = re.compile(
    r"(ppl|perplexity|nll|brier|surprisal|bpb|bpc|bpw|rmse|mse|mae|wer|cer|pct stereotype|likelihood diffs?"
    r"|likelihood difference|bits per)"
)
_LAST_LOSSES = re.compile(r"(bits|loss|losses|entropy|errors?)")
_GAINS = re.compile(r"(acc|accuracy|exact match|f1|mcc|correlation)")
# Tasks of abilities whose last part names a group.
_ACCURACIES = re.compile(r"minimal_pairs(_mean)?/|reading_times/")
_SKIPPED = ("alias", "samples", "sample_len", "name", "sample_count")
_LAYOUT = (
    "give model, task and value as CSV, JSON or parquet, or results_*.json of lm-evaluation-harness"
)


def read_tasks(sources: Sequence[Path | pd.DataFrame]) -> pd.DataFrame:
    """The values of all tasks, with COLUMNS, of files, folders and tables in memory.

    direction: 1 where more is better, -1 where less is, as of perplexities and bits: what the column of this
    name or the harness says, else what the metric's name says, or the task's where it has no metric.

    Raises: FileNotFoundError or ValueError naming file and row: no model, task or value; a value that a model
      has twice, and not the same.
    """
    parts = []
    for place, source in enumerate(sources):
        if isinstance(source, pd.DataFrame):
            parts.append(_of_table(source, Path(f"tasks[{place}]")))
            continue
        for path in _files(source):
            parts.append(_of_file(path))
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["value"].notna()].reset_index(drop=True)
    if rows.empty:
        raise ValueError(f"no task has a value: {_LAYOUT}")
    return _each_once(rows.assign(direction=_directions(rows)))


def named_tasks(rows: pd.DataFrame, patterns: Sequence[str]) -> pd.DataFrame:
    """The rows of the tasks that patterns name, as "lambada*" or "piqa:acc"; all where there is none.

    Raises: ValueError for a pattern that names none, with the nearest tasks.
    """
    if not patterns:
        return rows
    labels = label_of(rows)
    chosen = np.zeros(len(rows), bool)
    for pattern in patterns:
        fits = [
            fnmatch.fnmatchcase(task, pattern) or fnmatch.fnmatchcase(label, pattern)
            for task, label in zip(rows["task"], labels, strict=True)
        ]
        if not any(fits):
            raise ValueError(unknown("task", pattern, rows["task"].unique()))
        chosen |= fits
    return rows[chosen].reset_index(drop=True)


def label_of(rows: pd.DataFrame) -> list[str]:
    """ "task:metric", or the task alone where there is no metric."""
    return [
        f"{task}:{metric}" if metric else task
        for task, metric in zip(rows["task"], rows["metric"], strict=True)
    ]


def direction_of(task: str, metric: str) -> int:
    """-1 where the name of the metric, or of a task without one, says that less is better; else 1.

    Of a task "a/b" the last part tells, else the first; what follows ": " names a group and tells nothing.

    >>> direction_of("lambada", "perplexity"), direction_of("lambada", "acc"), direction_of("bits", "")
    (-1, 1, -1)
    >>> direction_of("error_detection", ""), direction_of("surprisal_correlation_gpt3", "")
    (1, 1)
    """
    if metric:
        return _said(metric.partition(",")[0], anywhere=True) or 1
    task = task.lower().partition(": ")[0]
    if _ACCURACIES.match(task):
        return 1
    parts = task.split("/")
    if len(parts) > 1 and _words(parts[0]).startswith("bits per "):  # the rest names a text
        return -1
    return _said(parts[-1]) or _said(parts[0]) or 1


def _directions(rows: pd.DataFrame) -> np.ndarray:
    """The direction of each row: what is given for its task, in any source, else what names say.

    Raises: ValueError where both are given for a task.
    """
    directions = np.ones(len(rows), int)
    for (task, metric), part in rows.groupby(["task", "metric"], sort=False):
        given = part[part["direction"].notna()]
        if given["direction"].nunique() > 1:
            more, less = (
                given.loc[given["direction"] == sign, "source"].iloc[0] for sign in (1, -1)
            )
            raise ValueError(
                f"of {label_of(part)[0]} more is better in {more} and less in {less}: correct the column "
                "direction"
            )
        said = int(given["direction"].iloc[0]) if len(given) else direction_of(task, metric)
        directions[part.index] = said
    return directions


def less_is_better(rows: pd.DataFrame) -> str:
    """Which of the tasks count with their sign turned, as a note; "" where none does."""
    turned = list(dict.fromkeys(label_of(rows[rows["direction"] == -1])))
    named = first_few(turned, _SHOWN)
    return (
        f"Less is taken to be better, and the sign turned, of {named}; where that is not so, give the column "
        "direction."
        if turned
        else ""
    )


def two_kinds_of_reading(rows: pd.DataFrame) -> str:
    """Which tasks have values of models that read in different directions, as a note; "" where none does."""
    told = rows[rows["reads"] != ""]
    mixed = told.groupby(["task", "metric"], sort=False)["reads"].transform("nunique") > 1
    labels = list(dict.fromkeys(label_of(told[mixed])))
    named = first_few(labels, _SHOWN)
    return (
        f"Of {named} some models read from left to right, and others in both directions, whose probabilities "
        "are pseudo-likelihoods: these are two measures. Give the tasks of models of one kind, to relate it "
        "alone."
        if labels
        else ""
    )


def _said(name: str, *, anywhere: bool = False) -> int:
    """-1 where the words of a name say that less is better, 1 that more is, 0 where they say nothing.

    anywhere: words as "loss" and "error" count in any place, not last alone.
    """
    words = _words(name)
    if _found(_GAINS, words):
        return -1 if words.endswith((" loss", " error")) else 1
    if _found(_LOSSES, words) or _found(_LAST_LOSSES, words if anywhere else words.split(" ")[-1]):
        return -1
    return 0


def _words(name: str) -> str:
    """The words of a name, in lower case, with one blank between them."""
    return " ".join(re.findall("[a-z0-9]+", name.lower()))


def _found(pattern: re.Pattern[str], words: str) -> bool:
    return re.search(rf"(?<!\S){pattern.pattern}(?!\S)", words) is not None


def _files(source: Path) -> Iterator[Path]:
    """The files of a source: itself; or a folder's results*.json, below it, else the one table in it."""
    if not source.exists():
        raise FileNotFoundError(f"there is no {source}: {_LAYOUT}")
    if source.is_file():
        yield source
        return
    results = sorted(source.rglob("results*.json"))
    if len(results) > _FILES:
        raise ValueError(f"{source} holds {len(results):,} results*.json: give at most {_FILES:,}")
    tables = [path for path in sorted(source.iterdir()) if path.is_file() and is_table(path)]
    tables = [path for path in tables if path.name not in ("manifest.json", "contents.json")]
    if results:
        yield from results
    elif len(tables) == 1:
        yield tables[0]
    else:
        raise ValueError(f"{source} holds {len(tables)} tables: name the file; {_LAYOUT}")


def _of_file(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if isinstance(content, dict) and isinstance(content.get("results"), dict):
            return _of_harness(content, path)
    return _of_table(read_table(path, ("model", "task", "value")), path)


def _of_table(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    missing = [name for name in ("model", "task", "value") if name not in rows.columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}: give model, task and value")
    if rows.empty:
        raise ValueError(f"{path} has no rows: give model, task and value of each")
    names, tasks, metrics = (texts(rows, column, path) for column in ("model", "task", "metric"))
    for what, column in (("model", names), ("task", tasks)):
        if "" in column:
            raise ValueError(f"{path} has no {what} in row {column.index('') + 1}: fill it in")
    by_name = {name: model_name(name) for name in set(names)}
    known = [by_name[name] for name in names]
    steps = numbers(rows, "step", path)
    given = numbers(rows, "direction", path)
    for row, direction in enumerate(given, 1):
        if direction == direction and direction not in (1, -1):
            raise ValueError(
                f"{path}: direction is {direction:g} in row {row}: give 1 where more is better, -1 where "
                "less is"
            )
    return pd.DataFrame(
        {
            "model": [each.model for each in known],
            "step": [
                each.step if step != step else step for each, step in zip(known, steps, strict=True)
            ],
            "task": tasks,
            "metric": metrics,
            "value": numbers(rows, "value", path),
            "stderr": numbers(rows, "stderr", path),
            "direction": given,
            "family": texts(rows, "family", path),
            "n_params": numbers(rows, "n_params", path),
            "width": numbers(rows, "width", path),
            "reads": texts(rows, "reads", path),
            "name": names,
            "source": str(path),
        }
    )


def _of_harness(content: dict[str, Any], path: Path) -> pd.DataFrame:
    """The values in an output file of the harness, of its old layout ("acc") or its new one ("acc,none")."""
    name, size = _harness_model(content, path)
    known = model_name(name)
    better = content.get("higher_is_better")
    lines = []
    for task, of_task in content["results"].items():
        if not isinstance(of_task, dict):
            raise ValueError(f"{path}: the results of {task} are no object: {_LAYOUT}")
        said = better.get(task) if isinstance(better, dict) else None
        for key, value in of_task.items():
            metric, _, filtered = str(key).partition(",")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if metric.endswith("_stderr") or metric in _SKIPPED or not number:
                continue
            error = of_task.get(f"{metric}_stderr" + f",{filtered}" * bool(filtered))
            error = _harness_number(
                error if isinstance(error, int | float) else None, task, key, path
            )
            more = said.get(metric) if isinstance(said, dict) else None
            lines.append(
                {
                    "task": task,
                    "metric": metric if filtered in ("", "none") else key,
                    "value": _harness_number(value, task, key, path),
                    "stderr": error,
                    "direction": (1 if more else -1) if isinstance(more, bool) else np.nan,
                }
            )
    if not lines:
        raise ValueError(f"{path} holds no value of any task: {_LAYOUT}")
    about = dict(model=known.model, step=known.step, n_params=size, name=name, source=str(path))
    return pd.DataFrame(lines).assign(family="", width=np.nan, reads="", **about)[list(COLUMNS)]


def _harness_number(value: float | None, task: str, key: str, path: Path) -> float:
    """A value as a number, NaN where it is none or not finite. Raises: ValueError where it is too large."""
    if isinstance(value, float) and not np.isfinite(value):
        return np.nan
    number = number_of(value)
    if number is None:
        raise ValueError(f"{path}: {key} of {task} is {shown(value)}: write a finite number")
    return number


def _harness_model(content: dict[str, Any], path: Path) -> tuple[str, float]:
    """(name with "@revision", number of parameters or NaN) of the model of a harness file."""
    config = content.get("config")
    config = config if isinstance(config, dict) else {}
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        pairs = [item.partition("=") for item in arguments.split(",")]
        arguments = {key.strip(): value.strip() for key, _, value in pairs}
    arguments = arguments if isinstance(arguments, dict) else {}
    candidates = (
        arguments.get("pretrained"),
        arguments.get("model"),
        content.get("model_name"),
        config.get("model"),
    )
    name = next((each for each in candidates if isinstance(each, str) and each.strip()), None)
    if name is None:
        raise ValueError(f"{path} names no model in config.model_args: give a table of model, task")
    revision = arguments.get("revision")
    if isinstance(revision, str | int) and str(revision).strip() and "@" not in name:
        name = f"{name}@{revision}"
    size = number_of(config.get("model_num_parameters"))
    return name, size if size is not None and size > 0 else np.nan


def _each_once(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, of values that are given twice and are the same once.

    Raises: ValueError for values that differ, and for two models whose names become the same.
    """
    check_names(rows, "tasks")
    key = ["model", "step", "task", "metric"]
    rows = rows.drop_duplicates([*key, "value"])
    twice = rows.duplicated(key)
    if twice.any():
        second = rows[twice].iloc[0]
        first = rows[(rows[key] == second[key]).all(axis=1)].iloc[0]
        raise ValueError(
            f"{second['name']} has two values of {label_of(rows[twice])[0]}: {first['value']:g} "
            f"({first['source']}) and {second['value']:g} ({second['source']}): keep one"
        )
    return rows.reset_index(drop=True)


def check_names(rows: pd.DataFrame, side: str) -> None:
    """Raises: ValueError where names of two organisations become the same model."""
    full = rows[["model", "name"]].drop_duplicates()
    full = full.assign(owner=[_owner(name) for name in full["name"]])
    for model, part in full[full["owner"] != ""].groupby("model"):
        if part["owner"].nunique() > 1:
            names = list(dict.fromkeys(part["name"]))
            raise ValueError(
                f"the {side} name {names[0]!r} and {names[1]!r}, which are both {model!r}: give them names "
                "that differ in their last part"
            )


def _owner(name: str) -> str:
    """The organisation of a hub id, "" of a path or a plain name."""
    parts = name.strip().partition("@")[0].split("/")
    return parts[0].casefold() if len(parts) == 2 and parts[0] not in (".", "..", "~", "") else ""
