"""What experiments make of flags: numbers, name=value items, and protocol fields."""

import dataclasses

from brainalign_jax.names import check_known
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
    r"""name=value items of a list flag, whose commas part them; one within a value is written `\,`.

    Raises: ValueError for an item without "=" or given twice.
    """
    found: dict[str, str] = {}
    whole: list[str] = []
    for part in values:
        if whole and whole[-1].endswith("\\"):
            whole[-1] += f",{part}"
        else:
            whole.append(part)
    for item in whole:
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise ValueError(f"--{name} takes name=value, not {item!r}")
        if key in found:
            raise ValueError(f"--{name} names {key!r} twice: give each once")
        found[key] = value
    return found


def protocol_fields(name: str, values: list[str]) -> dict[str, object]:
    """field=value items as fields of a protocol; alphas with colons, 0.1:1:10.

    Raises: ValueError for an unknown field, or a value of another type.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Protocol)}
    del kinds["name"]
    found = {}
    for field, text in pairs(name, values).items():
        check_known("field", field, kinds, of=f"--{name}", listing="help(Protocol)")
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
