"""How a model is shown: its short name, colour, marker and line.

Colours are those of Okabe and Ito, told apart by readers with any colour vision.
"""

import re
from collections import Counter
from collections.abc import Sequence

from brainalign_jax.study.names import UNTRAINED, without_seed

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
# Last parts of a folder path that say nothing of the model; a commit names a hub snapshot.
_GENERIC = re.compile(r"models?|checkpoints?|snapshots?|[0-9a-f]{40}", re.IGNORECASE)


def short_names(models: Sequence[str], *, width: int = 40) -> dict[str, str]:
    """Names for display: of a long folder path the last parts that tell the models apart.

    A path that ends in "model", "checkpoint", "snapshot" or a commit is named by the part before.
    An untrained twin has its trained model's name after "untrained:", and no other model has.
    """
    split = {name: split_prefix(without_seed(name)) for name in models}
    labels = _path_labels([path for _, path in split.values()])
    names = {
        name: prefix + labels[path] + name.removeprefix(without_seed(name))
        for name, (prefix, path) in split.items()
    }
    cut = {
        name: text
        if len(text) <= width
        else text[: width // 3] + "…" + text[1 + width // 3 - width :]
        for name, text in names.items()
    }
    return cut if len(set(cut.values())) == len(names) else names


def model_styles(models: Sequence[str]) -> dict[str, dict]:
    """Line styles by model; an untrained twin is dashed in the colour of its trained model."""
    trained = {name: without_seed(name).removeprefix(UNTRAINED) for name in models}
    bases = list(dict.fromkeys(trained.values()))
    styles = {}
    for name in models:
        index = bases.index(trained[name])
        untrained = name.startswith(UNTRAINED)
        styles[name] = {
            "color": OKABE_ITO[index % len(OKABE_ITO)],
            "marker": _MARKERS[(index // len(OKABE_ITO) + index) % len(_MARKERS)],
            "markersize": 4.5,
            "markerfacecolor": "white" if untrained else OKABE_ITO[index % len(OKABE_ITO)],
            "linestyle": "--" if untrained else "-",
            "linewidth": 1.8,
        }
    return styles


def split_prefix(name: str) -> tuple[str, str]:
    """("untrained:" or "static:" or "", the rest) of a model's name."""
    for prefix in (UNTRAINED, "static:"):
        if name.startswith(prefix):
            return prefix, name.removeprefix(prefix)
    return "", name


def _path_labels(paths: Sequence[str]) -> dict[str, str]:
    """A label for each path, distinct: parts are added in front only where two would be alike."""
    pieces = {path: path.replace("\\", "/").rstrip("/").split("/") for path in paths}
    telling = {path: _without_generic(parts) for path, parts in pieces.items()}
    count = Counter(map(tuple, telling.values()))
    choices = {}
    for path, parts in pieces.items():
        kept = telling[path] if count[tuple(telling[path])] == 1 else parts
        first = [kept[-1]] if len(kept) < len(parts) else []
        longer = ["…/" + "/".join(kept[-n:]) for n in range(2, len(kept))]
        choices[path] = [*first, *longer, path] if len(parts) > 2 else [path]
    level = dict.fromkeys(pieces, 0)
    while True:
        labels = {path: choices[path][level[path]] for path in pieces}
        count = Counter(labels.values())
        alike = [
            path
            for path, label in labels.items()
            if count[label] > 1 and level[path] + 1 < len(choices[path])
        ]
        if not alike:
            return labels
        for path in alike:
            level[path] += 1


def _without_generic(pieces: list[str]) -> list[str]:
    """The parts of a folder path up to the last that names the model; a hub id as it is."""
    end = len(pieces)
    if end > 2:
        while end > 1 and _GENERIC.fullmatch(pieces[end - 1]):
            end -= 1
    return pieces[:end] if pieces[end - 1] not in ("", ".", "..", "~") else pieces
