r"""Options of readers as text, `name=value`, converted by the types that the readers declare.

A switch is `true` or `false`, numbers are numbers, and text stays as it is: a column may be called
`0`, `true` or `none`. Several values have `:` between them, as `window=-2:2` or
`confounds=motion:rate`; a `:` or `,` that belongs to one of several texts is written `\:` or `\,`.
`none` is None where the option takes no text. No data set of its own.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from brainalign_jax.names import check_known
from brainalign_jax.neural.readers.registry import reader_of, reader_options
from brainalign_jax.neural.readout import Processing

Whole = Annotated[str, "text in which : is no separator"]

_ONE = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_MANY = {bool: "switches", int: "whole numbers", float: "numbers", str: "texts"}
_SEVERAL = (tuple, list, Iterable, Sequence)
_EXAMPLES = {bool: "true", int: "3", float: "0.5", str: "a"}


class ReaderOption(NamedTuple):
    """An option of a reader: its type in words, its default as it would be typed ("" where that is
    no text), and what it is, in a sentence."""

    name: str
    type: str
    default: str
    help: str


class _Kind(NamedTuple):
    """item: the type of one value; length: of a tuple of fixed length; single, several: whether a value
    may stand alone, and whether there may be several; optional: whether it may be None."""

    item: type
    length: int | None
    single: bool
    several: bool
    optional: bool

    def __str__(self) -> str:
        several = f"{_MANY[self.item]} with : between them"
        if self.length is not None:
            text = f"{self.length} {several}"
        elif self.single and self.several:
            text = f"{_ONE[self.item]}, or several with : between them"
        else:
            text = several if self.several else _ONE[self.item]
        return text + ", or none" * (self.optional and self.item is not str)


def convert_options(dataset: str, options: Mapping[str, str]) -> dict[str, Any]:
    r"""Options as text to the values that `open_dataset` takes.

    Args:
      dataset: name of the data set. options: name -> text, as described above.

    Raises: ValueError for an unknown data set or option, or naming the option, its text, the type and an
      example where the text is not of the type.
    """
    declared = _declared(dataset)
    converted = {}
    for name, text in options.items():
        check_known(
            "option", name, declared, of=dataset, listing=f"`brainalign datasets {dataset}`"
        )
        hint, default, _ = declared[name]
        kind = _kind(hint)
        if kind is None:
            raise ValueError(
                f"the option {name!r} of {dataset} is declared as {hint}, which no text can give; use "
                "open_dataset in Python"
            )
        try:
            converted[name] = _converted(kind, text)
        except ValueError:
            example = _written(default) or _EXAMPLES[kind.item]
            raise ValueError(
                f"{name}={text} of {dataset} is not {kind}; give it as {name}={example}"
            ) from None
    return converted


def describe_options(dataset: str) -> list[ReaderOption]:
    """The options of a data set's reader, in its order, with what its docstring says of them."""
    described = []
    for name, (hint, default, doc) in _declared(dataset).items():
        kind = _kind(hint)
        typed = kind is not None and not (default is None and kind.item is str)
        shown = _written(default) if typed else ""
        described.append(ReaderOption(name, str(kind or "only in Python"), shown, _help(doc, name)))
    return described


def split_items(text: str, separators: str = ":,") -> list[str]:
    r"""The parts of a text between separators; `\:` and `\,` belong to a part."""
    parts = re.split(rf"(?<!\\)[{separators}]", text)
    return [re.sub(r"\\([:,])", r"\1", part) for part in parts]


def written_items(items) -> str:
    """Texts as one option: the reverse of `split_items`."""
    return ":".join(re.sub("([:,])", r"\\\1", item) for item in items) or ":"


def _declared(dataset: str) -> dict[str, tuple[Any, Any, str]]:
    """option -> its type, its default, the docstring that tells of it."""
    known, reader = reader_options(dataset), reader_of(dataset)
    hints, facts = get_type_hints(reader, include_extras=True), {}
    for name, parameter in inspect.signature(reader).parameters.items():
        if name in known:
            default = parameter.default
            hint = hints.get(name, str if default is None else type(default))
            facts[name] = hint, default, inspect.getdoc(reader) or ""
    hints = get_type_hints(Processing)
    for field in fields(Processing):
        if field.name in known and field.name not in facts:
            facts[field.name] = (hints[field.name], field.default, inspect.getdoc(Processing) or "")
    return {name: facts[name] for name in known}


def _kind(hint: Any) -> _Kind | None:
    """What a type asks of a text; None where no text can give it."""
    items, length, single, several, optional = set(), None, False, False, False
    for arm in _arms(hint):
        origin, arguments = get_origin(arm), get_args(arm)
        if arm is types.NoneType:
            optional = True
        elif origin is Annotated:
            return _Kind(str, None, True, False, False)
        elif origin in _SEVERAL:
            several = True
            length = len(arguments) if origin is tuple and Ellipsis not in arguments else None
            items.update(x for part in arguments if part is not Ellipsis for x in _arms(part))
        else:
            single = True
            items.add(arm)
    items = {str if item is Path else item for item in items}
    item = next((kind for kind in (str, float, int, bool) if kind in items), None)
    if item is None or not items <= set(_ONE):
        return None
    return _Kind(item, length, single, several, optional)


def _arms(hint: Any) -> tuple:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _converted(kind: _Kind, text: str) -> Any:
    """Raises ValueError where the text is not of the kind."""
    if kind.optional and kind.item is not str and text.strip().lower() == "none":
        return None
    if not kind.several:
        return _value(kind.item, text)
    parts = split_items(text, ":")
    # One text that needed an escape would be split by the reader.
    if kind.single and len(parts) == 1 and (kind.item is not str or parts == [text]):
        return _value(kind.item, text)
    if kind.length not in (None, len(parts)):
        raise ValueError(text)
    return tuple(_value(kind.item, part) for part in parts)


def _value(item: type, text: str) -> Any:
    if item is str:
        return text
    text = text.strip()
    if item is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if not re.fullmatch(r"[+-]?\d+" if item is int else r"[^_]+", text):
        raise ValueError(text)
    value = item(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _written(value: Any) -> str:
    """A value as it would be typed."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return ":".join(map(_written, value))
    return str(value)


def _help(doc: str, name: str) -> str:
    """The first sentence of the entry "name: ...", or "one, name (s), other: ...", of a docstring."""
    more = r"\w+(?: \([^()]*\))?"
    entry = rf"(?:^|(?<=[.;:] ))(?:{more}, )*{name}(?: \([^()]*\))?(?:, {more})*: "
    end = rf"(?:\.(?= |$)|; (?=(?:{more}, )*{more}: )|$)"
    match = re.search(rf"{entry}(.+?){end}", " ".join(doc.split()))
    return match.group(1) if match else ""
