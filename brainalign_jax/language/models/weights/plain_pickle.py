"""Read a pickle of plain values, without `pickle`: nothing in it is run, and nothing here changed.

Its opcodes are worked through one by one. What they can make is numbers, strings, tuples, and lists
and dictionaries of their own; the names of classes and functions stay names, and what a call or a
reference gives is the reader's to say. `BUILD`, by which a pickle sets attributes of what it names,
is known for dictionaries only, whose attributes are dropped.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

_MOST_DIGITS = 40  # of a number that a file of tensors needs
_MOST_STEPS = 1_000_000  # a model of 10,000 tensors takes half a million


class Name(NamedTuple):
    """A class or function that a pickle names; never looked up."""

    module: str
    name: str


class Refused(Exception):
    """The file asks for something that plain values do not need."""


class Malformed(Exception):
    """The file is no pickle, or no sensible one."""


class _Bounded:
    """A stream that never reads past `end`, however many bytes are asked for."""

    def __init__(self, stream: BinaryIO, end: int):
        self.stream, self.end = stream, end

    def _left(self) -> int:
        return max(0, self.end - self.stream.tell())

    def read(self, size: int = -1) -> bytes:
        return self.stream.read(self._left() if size < 0 else min(size, self._left()))

    def readline(self) -> bytes:
        return self.stream.readline(self._left())


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_OLD_STRINGS = {"BINSTRING", "SHORT_BINSTRING"}
_IGNORED = {"PROTO", "FRAME", "STOP"}


def load(
    stream: BinaryIO,
    end: int,
    *,
    call: Callable[[Name, tuple], Any],
    refer: Callable[[Any], Any],
    known: Callable[[Name], bool],
) -> Any:
    """The value of the pickle at the stream's position; the stream stands after it then.

    Args:
      end: where the stream ends at the latest. call: what a function of this name gives for these
        arguments. refer: what a persistent reference stands for. known: whether a name may occur.

    Raises: Refused, Malformed, or what the opcodes of a damaged pickle lead to (any Exception).
    """
    machine = _Machine(call, refer, known)
    steps = pickletools.genops(_Bounded(stream, end))
    for count, (opcode, argument, _) in enumerate(steps):
        if count > _MOST_STEPS:
            raise Malformed(f"a pickle of more than {_MOST_STEPS} steps")
        machine.step(opcode.name, argument)
    return machine.result()


class _Machine:
    def __init__(self, call, refer, known):
        self.call, self.refer, self.known = call, refer, known
        self.stack: list[Any] = []
        # A dictionary: the numbers of a pickle's memo are its own, and cost nothing here.
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        (value,) = self.stack
        if value is _MARK:
            raise Malformed("it ends inside a list")
        return value

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            if opcode in _OLD_STRINGS:  # of Python 2; pickletools takes their bytes for latin-1
                argument = argument.encode("latin-1").decode("utf-8")
            if isinstance(argument, int) and abs(argument) >= 10**_MOST_DIGITS:
                raise Malformed(f"a number of more than {_MOST_DIGITS} digits")
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode not in _IGNORED:
            method = getattr(self, f"_{opcode.lower()}", None)
            if method is None:
                raise Malformed(f"the operation {opcode}")
            method(argument)

    def _pop(self, _: None = None) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise Malformed("a list that ends before it begins")
        return value

    def _since_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _top(self, kind: type) -> Any:
        if self.stack[-1] is _MARK:
            raise Malformed("a list without a place")
        if not isinstance(self.stack[-1], kind):
            raise Refused(f"a change of {_kind_of(self.stack[-1])}")
        return self.stack[-1]

    # Memo

    def _put(self, number: int) -> None:
        if self.stack[-1] is _MARK:
            raise Malformed("a mark in the memo")
        self.memo[number] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: None) -> None:
        self._put(len(self.memo))

    def _get(self, number: int) -> None:
        self.stack.append(self.memo[number])

    _binget = _long_binget = _get

    # Tuples, lists, dictionaries

    def _mark(self, _: None) -> None:
        self.stack.append(_MARK)

    def _tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _tuple_of(self, size: int) -> None:
        self.stack.append(tuple([self._pop() for _ in range(size)][::-1]))

    def _empty_tuple(self, _: None) -> None:
        self._tuple_of(0)

    def _tuple1(self, _: None) -> None:
        self._tuple_of(1)

    def _tuple2(self, _: None) -> None:
        self._tuple_of(2)

    def _tuple3(self, _: None) -> None:
        self._tuple_of(3)

    def _empty_list(self, _: None) -> None:
        self.stack.append([])

    def _list(self, _: None) -> None:
        self.stack.append(self._since_mark())

    def _append(self, _: None) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self, _: None) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def _empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _dict(self, _: None) -> None:
        values = self._since_mark()
        self.stack.append({})
        self._set(values)

    def _setitem(self, _: None) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _setitems(self, _: None) -> None:
        self._set(self._since_mark())

    def _set(self, values: list[Any]) -> None:
        self._top(dict).update(pairs_to_dict(zip(values[::2], values[1::2], strict=True)))

    # Names, calls, references

    def _push_name(self, name: Name) -> None:
        if not self.known(name):
            raise Refused(f"{name.module}.{name.name}")
        self.stack.append(name)

    def _global(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self._push_name(Name(module, name))

    def _stack_global(self, _: None) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Malformed("a name that is no string")
        self._push_name(Name(module, name))

    def _reduce(self, _: None) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name) or type(arguments) is not tuple:
            raise Refused(f"a call of {_kind_of(function)}")
        self.stack.append(self.call(function, arguments))

    def _binpersid(self, _: None) -> None:
        self.stack.append(self.refer(self._pop()))

    def _build(self, _: None) -> None:
        self._pop()
        self._top(dict)


def pairs_to_dict(pairs: Any) -> dict:
    """A dictionary of (key, value) pairs; Malformed where a key is no string or number."""
    dictionary = {}
    for key, value in pairs:
        if not isinstance(key, str | int | float | None):
            raise Malformed(f"a {type(key).__name__} as key")
        dictionary[key] = value
    return dictionary


def _kind_of(value: Any) -> str:
    return f"{value.module}.{value.name}" if isinstance(value, Name) else type(value).__name__
