"""What users read, said in one way: numbers, intervals, p-values, shares, lists, counts, names of models."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from brainalign_jax.study.names import UNTRAINED, without_seed

# Last parts of a folder path that say nothing of the model; a commit names a hub snapshot.
_GENERIC = re.compile(r"models?|checkpoints?|snapshots?|[0-9a-f]{40}", re.IGNORECASE)


def known(value: float | None) -> bool:
    """Whether there is a number: neither None nor NaN."""
    return value is not None and math.isfinite(value)


def number(value: float | None) -> str:
    """Three decimals, "–" where there is none."""
    return f"{value:z.3f}" if known(value) else "–"


def fraction(value: float | None) -> str:
    """Three decimals without the zero before the point, for correlations; "–" for none."""
    if not known(value):
        return "–"
    text = f"{abs(value):.3f}"
    return ("−" if value < 0 and float(text) else "") + text.removeprefix("0")


def signed(value: float | None) -> str:
    """As `fraction`, with its sign."""
    text = fraction(value)
    return text if text[0] in "−–" else "+" + text


def p_value(p: float | None) -> str:
    """A p-value: three decimals, "< 0.001" where they would be none, "–" where there is none."""
    return "< 0.001" if known(p) and p < 0.0005 else number(p)


def probability(p: float | None) -> str:
    """ "p = 0.012" or "p < 0.001"; "no p" where there is none."""
    text = p_value(p)
    return "no p" if text == "–" else f"p {text}" if text[0] == "<" else f"p = {text}"


def interval(lower: float | None, upper: float | None) -> str:
    """An interval in brackets, "" where there is none."""
    return f"[{number(lower)}, {number(upper)}]" if known(lower) and known(upper) else ""


def span(low: float, high: float, printed: Callable[[float], str] = number) -> str:
    """ "0.010 to 0.020" of the smallest and the largest number, "0.010" where they are the same."""
    return printed(low) if low == high else f"{printed(low)} to {printed(high)}"


def percent(share: float) -> str:
    """ "95 %" of 0.95."""
    return f"{100 * share:.3g} %"


def listed(names: Iterable[str]) -> str:
    """ "a, b and c", each name once."""
    names = list(dict.fromkeys(names))
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def first_few(names: Iterable[str], shown: int = 5) -> str:
    """ "a, b and 3 more": the first of the names, each once, and how many others there are."""
    names = list(dict.fromkeys(names))
    others = [f"{len(names) - shown} more"] * (len(names) > shown)
    return listed([*names[:shown], *others])


_NUISANCES = {
    "rate": "word rate",
    "sound_power": "sound power",
    "length": "word length",
    "frequency": "log frequency",
}


def plain_names(nuisances: Iterable[str]) -> str:
    """ "word rate, word length and surprisal" of nuisances; "nothing" of none."""
    return listed(_NUISANCES.get(name, name) for name in nuisances) or "nothing"


def capitalised(text: str) -> str:
    """The text with its first letter as a sentence begins; `str.capitalize` would lower the others."""
    return text[:1].upper() + text[1:]


def in_points(headline: str, texts: Iterable[str]) -> str:
    """A headline, and a line with a dash for each text."""
    return "\n".join([headline, *(f"- {text}" for text in texts)])


def counted(count: int, noun: str) -> str:
    """ "1 subject", "3 subjects"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def mean_of_subjects(count: int) -> str:
    """What a score is: "mean of 3 subjects" or "one subject"."""
    return f"mean of {count} subjects" if count != 1 else "one subject"


def recorded(value: object) -> str:
    """A manifest's value for a reader, without the entries that were not given."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        given = {key: item for key, item in value.items() if item is not None}
        return "; ".join(f"{key}: {recorded(item)}" for key, item in given.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(recorded, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


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
