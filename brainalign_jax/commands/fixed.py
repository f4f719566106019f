"""`--protocols` and `--fixed`, fields of them as a user types them: for studies under several protocols."""

import dataclasses
from typing import Any

from brainalign_jax.names import check_known
from brainalign_jax.options import Option, bounds_of, check_number
from brainalign_jax.study.protocol import PROTOCOLS, Protocol

FIXED = Option(
    "fixed",
    "pairs",
    (),
    "Protocol fields of every protocol alike, as csls_k=10,n_folds=5; alphas with colons, 0.1:1:10.",
    "protocol",
)
PROTOCOL_NAMES = Option(
    "protocols",
    "list",
    ("paper", "audited"),
    "Under which protocols.",
    "protocol",
    tuple(PROTOCOLS),
)
_NAMES: dict[Any, str] = {bool: "true or false", int: "whole number", float: "number", str: "text"}
_NAMES[tuple[float, ...]] = "list of numbers between colons"


def protocol_fields(values: dict[str, str]) -> dict[str, Any]:
    """The values of --fixed as fields of a protocol.

    Raises: ValueError for an unknown field, or a value of another type or out of the field's range.
    """
    fields = {field.name: field for field in dataclasses.fields(Protocol) if field.name != "name"}
    converted: dict[str, Any] = {}
    for name, text in values.items():
        check_known("field", name, fields, of="--fixed", listing="help(Protocol)")
        field = fields[name]
        try:
            converted[name] = _converted(field.type, text)
        except ValueError as error:
            raise ValueError(f"--fixed: {name}={text} is no {_NAMES[field.type]}") from error
        if field.metadata["choices"]:
            check_known(f"--fixed: {name}=", text, field.metadata["choices"])
        if field.type not in (bool, str):
            several = converted[name] if isinstance(converted[name], tuple) else (converted[name],)
            for number in several:
                check_number(f"--fixed: {name}={text}", number, **bounds_of(field.metadata))
    return converted


def _converted(kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind in (int, float, str):
        return kind(text)
    return tuple(float(part) for part in text.split(":"))
