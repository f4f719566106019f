"""What experiments make of flags: readers' options, numbers, and protocol fields as field=value."""

import dataclasses
import math
import re

from brainalign_jax.study.protocol import Protocol


def numbers(name: str, values: list[str] | None, kind: type) -> tuple | None:
    """The values of a list flag as numbers. Raises: ValueError naming the flag."""
    if values is None:
        return None
    try:
        return tuple(kind(value) for value in values)
    except ValueError as error:
        raise ValueError(f"--{name}={','.join(values)} must be numbers: {error}") from error


def pairs(name: str, values: list[str]) -> dict[str, str]:
    """name=value items of a list flag. Raises: ValueError for an item without "=" or given twice."""
    found: dict[str, str] = {}
    for item in values:
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise ValueError(f"--{name} takes name=value, not {item!r}")
        if key in found:
            raise ValueError(f"--{name} names {key!r} twice: give each once")
        found[key] = value
    return found


def reader_value(value: str) -> bool | float | tuple | str:
    """A switch, a number, numbers between colons (window=-2:2), or text."""
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        parts = tuple(float(part) for part in value.split(":"))
    except ValueError:
        return value
    if not all(map(math.isfinite, parts)):  # "inf" and "nan" are words, too
        return value
    whole = re.fullmatch(r"-?\d+", value)
    return parts if len(parts) > 1 else int(value) if whole else parts[0]


def protocol_fields(name: str, values: list[str]) -> dict[str, object]:
    """field=value items as fields of a protocol; alphas with colons, 0.1:1:10.

    Raises: ValueError for an unknown field, or a value of another type.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Protocol)}
    found = {}
    for field, text in pairs(name, values).items():
        if field == "name" or field not in kinds:
            known = ", ".join(one for one in kinds if one != "name")
            raise ValueError(f"--{name} names the unknown field {field!r}: choose of {known}")
        try:
            found[field] = _field(kinds[field], text)
        except ValueError as error:
            raise ValueError(f"--{name}: {field}={text} is no {_NAMES[kinds[field]]}") from error
    return found


_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text"}
_NAMES[tuple[float, ...]] = "list of numbers between colons"


def _field(kind: type, text: str) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind in (int, float, str):
        return kind(text)
    return tuple(float(part) for part in text.split(":"))
