"""Tensors in a few words: ValueSummary from what is on an edge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.runtime.frames import ABSENT, DEAD
from engine.runtime.health import measure
from engine.runtime.queues import Queue
from engine.runtime.resources import Resource, Stack, TensorArray
from engine.types.dtypes import as_dtype
from viz.format import plural
from workbench.debugger.snapshot import MAX_TEXT, TokenState, TokenView, ValueSummary

WHOLE = 32  # elements up to which a value is shown whole
LARGE = 1 << 18  # elements from which on measuring takes a while
LONG = 60  # characters of one string


class Reference:
    """A reference to a variable as it was when it was passed on: `value` is what the variable held then."""

    __slots__ = ("resource", "value")

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.value = resource.value


class Summaries:
    """Makes summaries, and makes each only once for as long as the value stays in sight.

    `turn` is called once a snapshot; what was not asked for between two turns is forgotten.
    """

    def __init__(self) -> None:
        self._now: dict[int, tuple[Any, ValueSummary]] = {}
        self._before: dict[int, tuple[Any, ValueSummary]] = {}

    def turn(self) -> None:
        self._before, self._now = self._now, {}

    def of(self, value: Any, in_passing: bool = False) -> ValueSummary:
        """The summary of an array, NumPy scalar, resource or reference; `in_passing`, that of a large array has no numbers."""
        if in_passing and getattr(value, "size", 0) > LARGE:
            return ValueSummary(as_dtype(value.dtype).name, value.shape, "…", False, nbytes=value.nbytes)
        if isinstance(value, Resource):
            value = Reference(value)
        if isinstance(value, Reference):
            return _of_reference(value)
        key = id(value)
        known = self._now.get(key) or self._before.get(key)
        if known is None or known[0] is not value:
            known = (value, summarize(value))
        self._now[key] = known
        return known[1]

    def token(self, slot: int, name: str, value: Any, in_passing: bool = False) -> TokenView:
        """A token on input or output `slot`."""
        if value is ABSENT:
            return TokenView(slot, name, TokenState.MISSING)
        if value is DEAD:
            return TokenView(slot, name, TokenState.DEAD)
        return TokenView(slot, name, TokenState.VALUE, self.of(value, in_passing))


def summarize(value: Any) -> ValueSummary:
    """What there is to say about an array or NumPy scalar; anything else is shown by its `repr`."""
    if not isinstance(value, np.ndarray | np.generic):
        text = repr(value)
        return ValueSummary(type(value).__name__, (), text[:MAX_TEXT], len(text) <= MAX_TEXT)
    health = measure(value)
    text, complete = print_array(value, MAX_TEXT, WHOLE)
    return ValueSummary(
        dtype=as_dtype(value.dtype).name,
        shape=health.shape,
        text=text,
        complete=complete,
        minimum=_finite(health.minimum),
        maximum=_finite(health.maximum),
        mean=_finite(health.mean),
        nan=health.nan,
        inf=health.inf,
        nbytes=health.nbytes,
    )


def print_array(value: Any, limit: int, whole: int) -> tuple[str, bool]:
    """`value` as text of at most `limit` characters, its middle left out beyond `whole` elements; and whether all is there."""
    array = np.asarray(value)
    complete = array.size <= whole
    options: dict[str, Any] = {"threshold": whole, "edgeitems": 3, "max_line_width": 76, "separator": ", "}
    if array.dtype.hasobject:
        shown = [_shorten(item) for item in array.reshape(-1)[: whole + 1].tolist()]
        complete = complete and all(whole_item for _, whole_item in shown)
        options["formatter"] = {"all": lambda item: _shorten(item)[0]}
    if array.ndim == 0:
        text = _shorten(array.item())[0] if array.dtype.hasobject else str(array[()])
    else:
        text = np.array2string(array, **options)
    if len(text) > limit:
        return text[: limit - 1] + "…", False
    return text, complete


def _shorten(item: Any) -> tuple[str, bool]:
    if isinstance(item, bytes | str) and len(item) > LONG:
        return repr(item[:LONG]) + "…", False
    text = repr(item)
    return (text, True) if len(text) <= 5 * LONG else (text[: 5 * LONG] + "…", False)


def _of_reference(reference: Reference) -> ValueSummary:
    resource, value = reference.resource, reference.value
    if isinstance(value, np.ndarray | np.generic):
        found = summarize(value)
        return ValueSummary(f"{found.dtype}_ref", *(getattr(found, name) for name in _AFTER_DTYPE))
    if isinstance(resource, Stack | TensorArray):
        # What it holds is listed where resources are; a stack's value is a chain thousands of cells deep.
        return ValueSummary(resource.kind.replace(" ", "_"), (), _held(resource, value), True)
    if isinstance(resource, Queue):
        return ValueSummary(resource.kind, (), resource.describe(value), True)
    dtype = getattr(resource, "dtype", None)
    name = f"{dtype.name}_ref" if dtype is not None else resource.kind
    if value is None:
        return ValueSummary(name, (), f"<{resource.kind} {resource.name}: uninitialized>", True)
    text = repr(value)
    return ValueSummary(name, (), text[:MAX_TEXT], len(text) <= MAX_TEXT)


def _held(resource: Stack | TensorArray, value: Any) -> str:
    count = len(value) if isinstance(resource, TensorArray) else 0 if value is None else int(value[2])
    return f"<{resource.name}: {plural(count, 'element')}>"


_AFTER_DTYPE = tuple(ValueSummary.__dataclass_fields__)[1:]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
