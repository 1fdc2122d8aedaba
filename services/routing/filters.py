"""The filter dialects of the CloudEvents Subscriptions API 1.0 (§3.2.4), plus ``cel`` over attributes and data.

A filter is compiled once into a function. ``exact``, ``prefix`` and ``suffix`` hold when every attribute they name
does; a missing attribute never does; values compare case-sensitively and may not be empty.

An expression that can't be evaluated on an event says neither yes nor no (None), as CEL's own errors do: ``not`` leaves
it so, ``any`` holds where another of its filters does, ``all`` fails where another does. What is left undecided has not
matched, so a failing expression never lets an event through, in whatever order filters stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import cel

from services.runtime.errors import FieldProblem, InvalidError

Attributes = Mapping[str, str]
Data = Callable[[], Mapping[str, Any]]
Predicate = Callable[[Attributes, Data], bool | None]
"""Tells whether a filter holds for an event; None when that can't be told."""
OnError = Callable[[], None]

_MENTIONS_DATA = re.compile(r"\bdata\b")
_ATTRIBUTE_NAME = re.compile(r"^[a-z0-9]{1,20}$")


def compile_filters(filters: Sequence[Mapping[str, Any]], on_error: OnError, pointer: str = "/filters") -> Predicate:
    """Return a predicate that holds when all filters do; raises InvalidError that names each bad one."""
    return _all([compile_filter(f, on_error, f"{pointer}/{n}") for n, f in enumerate(filters)])


def compile_filter(expression: object, on_error: OnError, pointer: str) -> Predicate:
    """Return the predicate of one filter; raises InvalidError with a JSON pointer to what is wrong."""
    if not isinstance(expression, Mapping) or len(expression) != 1:
        raise _invalid(pointer, "应为只有一个方言的对象 (a filter is an object with exactly one dialect)")
    ((dialect, operand),) = expression.items()
    here = f"{pointer}/{dialect}"
    match dialect:
        case "exact":
            return _attributes(operand, here, lambda value, wanted: value == wanted)
        case "prefix":
            return _attributes(operand, here, str.startswith)
        case "suffix":
            return _attributes(operand, here, str.endswith)
        case "all":
            return _all(_nested(operand, on_error, here))
        case "any":
            return _any(_nested(operand, on_error, here))
        case "not":
            return _not(compile_filter(operand, on_error, here))
        case "cel":
            return _cel(operand, on_error, here)
        case _:
            raise _invalid(here, "没有这种方言，应为 exact prefix suffix all any not cel (unknown dialect)")


def filters_within(expression: Mapping[str, Any], pointer: str) -> Iterator[tuple[str, str, Any]]:
    """Give the filters that hold no others, however deep in one that compiles: pointer, dialect and operand."""
    ((dialect, operand),) = expression.items()
    here = f"{pointer}/{dialect}"
    match dialect:
        case "all" | "any":
            for number, one in enumerate(operand):
                yield from filters_within(one, f"{here}/{number}")
        case "not":
            yield from filters_within(operand, here)
        case _:
            yield here, dialect, operand


def cel_variables(expression: str) -> set[str]:
    """Return the names that an expression uses, those that it binds itself among them; raises ValueError."""
    return set(_program(expression).variables())


def _attributes(operand: object, pointer: str, holds: Callable[[str, str], bool]) -> Predicate:
    if not isinstance(operand, Mapping) or not operand:
        raise _invalid(pointer, "应为属性名到取值的非空对象 (an object of attribute and value, not empty)")
    for name, wanted in operand.items():
        if not _ATTRIBUTE_NAME.match(str(name)):
            raise _invalid(f"{pointer}/{name}", "不是 CloudEvents 属性名 (no CloudEvents attribute name)")
        if not isinstance(wanted, str) or not wanted:
            raise _invalid(f"{pointer}/{name}", "取值应为非空文字 (a value is text, not empty)")
    pairs = tuple(operand.items())

    def predicate(attributes: Attributes, _data: Data) -> bool | None:
        for name, wanted in pairs:
            value = attributes.get(name)
            if value is None or not holds(value, wanted):
                return False
        return True

    return predicate


def _nested(operand: object, on_error: OnError, pointer: str) -> list[Predicate]:
    if not isinstance(operand, Sequence) or isinstance(operand, str) or not operand:
        raise _invalid(pointer, "应为非空的过滤器数组 (an array of filters, not empty)")
    return [compile_filter(f, on_error, f"{pointer}/{n}") for n, f in enumerate(operand)]


def _not(inner: Predicate) -> Predicate:
    def predicate(attributes: Attributes, data: Data) -> bool | None:
        holds = inner(attributes, data)
        return None if holds is None else not holds

    return predicate


def _all(predicates: Sequence[Predicate]) -> Predicate:
    return predicates[0] if len(predicates) == 1 else _decided_by(False, predicates)


def _any(predicates: Sequence[Predicate]) -> Predicate:
    return _decided_by(True, predicates)


def _decided_by(deciding: bool, predicates: Sequence[Predicate]) -> Predicate:
    """Return what the first filter to say this decides; where none does, undecided or the contrary."""

    def predicate(attributes: Attributes, data: Data) -> bool | None:
        found: bool | None = not deciding
        for one in predicates:
            holds = one(attributes, data)
            if holds is deciding:
                return deciding
            if holds is None:
                found = None
        return found

    return predicate


def _cel(operand: object, on_error: OnError, pointer: str) -> Predicate:
    if not isinstance(operand, str) or not operand.strip():
        raise _invalid(pointer, "应为 CEL 表达式 (a CEL expression)")
    try:
        program = _program(operand)
    except ValueError as error:
        raise _invalid(pointer, f"CEL 表达式不能编译 (does not compile): {error}") from error
    needs_data = bool(_MENTIONS_DATA.search(operand))

    def predicate(attributes: Attributes, data: Data) -> bool | None:
        context: dict[str, Any] = dict(attributes)
        if needs_data:
            context["data"] = data()
        try:
            found = program.execute(context)
        except Exception:  # noqa: BLE001  (what CEL raises is listed nowhere, and none of it may stop a router)
            found = None
        if isinstance(found, bool):
            return found
        # It is counted and shown; what says neither true nor false is no answer either.
        on_error()
        return None

    return predicate


@lru_cache(maxsize=4096)
def _program(expression: str) -> Any:  # noqa: ANN401  (the library is untyped)
    """Compile an expression once, in however many subscriptions and plans it stands; raises ValueError."""
    return cel.compile(expression)


def _invalid(pointer: str, detail: str) -> InvalidError:
    return InvalidError([FieldProblem(pointer, detail)])
