"""A stage as one blob, and back.

The blob is a compressed JSON document, with every distinct string, dtype, shape and stack frame in it once.  Source lines are
copied into it, so that a run can still be read when the script has changed or gone.  What comes back are the engine's own
classes (`Stage`, `StageNode`, `Site`), except that large tensors among the attrs come back as a `TensorSummary`.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from engine.op.registry import OpDef, lookup
from engine.passes.stage import Lineage, Stage, StageNode
from engine.placement.decision import Decision
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape
from engine.types.site import Frame, Site
from tracing import columns

FORMAT = 2
FORMATS = (1, 2)
"""Those that are read; 2 has placement's decisions."""
SMALL_TENSOR = 1024
"""Tensors among the attrs (values of constants) are kept whole up to this many bytes."""


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """What is kept of a tensor in an attr that is too large to keep: dtype name, shape, bytes, and its first elements as text."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    text: str

    def __str__(self) -> str:
        return f"<{self.dtype}{list(self.shape)}, {self.nbytes:,} bytes: {self.text}>"


@dataclass(frozen=True, slots=True)
class Unstored:
    """An attr value of a kind that has no stored form; `text` is its repr."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class RecordedOp:
    """What is known of an op type that is not registered in the reading process: name, statefulness, role in control flow."""

    name: str
    stateful: bool = False
    flow: str = ""


class RecordedFrame(Frame):
    """A frame of the user's program whose source line was copied when the run was written."""

    _text: str

    @classmethod
    def make(cls, file: str, line: int, function: str, text: str) -> RecordedFrame:
        frame = cls(file, line, function)
        frame._text = text
        return frame

    @property
    def source(self) -> str:
        """The text of the line, stripped, as it was when the run was written; '' if it could not be read then."""
        return self._text


class RecordedStage(Stage):
    """A stage read from a run; the stage before it is read when somebody asks for it."""

    def __init__(
        self, load: Callable[[int], Stage], before_id: int | None, fields: Mapping[str, Any]
    ) -> None:
        self.__dict__.update(fields, _load=load, _before_id=before_id)

    @cached_property
    def before(self) -> Stage | None:
        found: Stage | None = None if self._before_id is None else self._load(self._before_id)
        return found

    _load: Callable[[int], Stage]
    _before_id: int | None


# Writing.


class _Table:
    """Distinct values, numbered in the order in which they came."""

    def __init__(self) -> None:
        self.index: dict[Any, int] = {}

    def __call__(self, value: Any) -> int:
        return self.index.setdefault(value, len(self.index))


def frames_to_json(frames: Iterable[Frame]) -> list[list[Any]]:
    """Frames as lists of file, line, function and source text."""
    return [[frame.file, frame.line, frame.function, frame.source] for frame in frames]


def frames_from_json(rows: Iterable[Any]) -> tuple[RecordedFrame, ...]:
    """What `frames_to_json` wrote.  Raises ValueError or TypeError for anything else."""
    return tuple(RecordedFrame.make(file, line, function, text) for file, line, function, text in rows)


def pack_stage(stage: Stage, before_id: int | None) -> tuple[bytes, set[str]]:
    """The stage as a blob, and the user's files that it refers to; `before_id` is the id of `stage.before` in the run."""
    strings, types, dtypes, shapes, frames, sites = _Table(), _Table(), _Table(), _Table(), _Table(), _Table()
    groups = _Table()
    nodes: list[list[Any]] = []
    for node in stage:
        site = None if node.site is None else sites(tuple([frames(frame) for frame in node.site.frames]))
        lineage = node.lineage
        nodes.append(
            [
                strings(node.name),
                types(node.opdef),
                [part for name, slot in node.inputs for part in (strings(name), slot)],
                [strings(name) for name in node.control_inputs],
                strings(node.device),
                [dtypes(dtype) for dtype in node.input_dtypes],
                [dtypes(dtype) for dtype in node.output_dtypes],
                [shapes(shape.dims_or_none) for shape in node.output_shapes],
                site,
                [strings(name) for name in lineage.sources],
                strings(lineage.by),
                strings(lineage.reason),
                strings(node.original),
                {name: encode_attr(value) for name, value in node.attrs.items()},
                None if node.decision is None else _pack_decision(node.decision, strings, groups),
            ]
        )
    document = {
        "format": FORMAT,
        "name": stage.name,
        "before": before_id,
        "feeds": stage.feeds,
        "fetches": stage.fetches,
        "targets": stage.targets,
        "removed": dict(stage.removed),
        "graph_version": stage.graph_version,
        "strings": list(strings.index),
        "types": [[op.name, getattr(op, "stateful", False), getattr(op, "flow", "")] for op in types.index],
        "dtypes": [dtype.name for dtype in dtypes.index],
        "shapes": [None if dims is None else list(dims) for dims in shapes.index],
        "frames": frames_to_json(frames.index),
        "sites": [list(site) for site in sites.index],
        "groups": [list(group) for group in groups.index],
        "nodes": nodes,
    }
    files = {frame.file for frame in frames.index}
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1), files


def _pack_decision(decision: Decision, strings: _Table, groups: _Table) -> list[Any]:
    """A decision; groups of names, which many nodes have in common, are numbers into a table."""
    return [
        strings(decision.requested),
        groups(tuple(map(strings, decision.possible))),
        [part for device, ns in decision.finish_ns.items() for part in (strings(device), round(ns, 1))],
        groups(tuple(map(strings, decision.colocated_with))),
        strings(decision.reason),
    ]


def encode_attr(value: Any) -> Any:
    """An attr's value as JSON: itself where JSON has it, else an object with one key that says what it is."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, DType):
        return {"type": value.name}
    if isinstance(value, TensorShape):
        dims = value.dims_or_none
        return {"shape": None if dims is None else list(dims)}
    if isinstance(value, (tuple, list)):
        return [encode_attr(item) for item in value]
    if isinstance(value, np.ndarray):
        return _encode_tensor(value)
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    return {"repr": repr(value)[:200]}


def _encode_tensor(array: np.ndarray[Any, Any]) -> Any:
    strings = array.dtype == object
    nbytes = array.nbytes
    if strings:
        items = array.reshape(-1)[: SMALL_TENSOR + 1].tolist()
        if not all(isinstance(item, bytes) for item in items):
            return {"repr": repr(array)[:200]}
        nbytes = sum(map(len, items)) + len(items)
    if nbytes <= SMALL_TENSOR:
        try:
            return {"tensor": base64.b64encode(columns.pack({"value": array})).decode()}
        except TypeError:  # a dtype that has no stored form
            return {"repr": repr(array)[:200]}
    dtype = "string" if strings else array.dtype.name
    return {"summary": [dtype, list(array.shape), int(array.nbytes), _first_elements(array)]}


def _first_elements(array: np.ndarray[Any, Any]) -> str:
    head = array.reshape(-1)[:6] if array.flags.c_contiguous else array.flat[:6]
    texts = [repr(item)[:40] if isinstance(item, bytes) else f"{item!s:.40}" for item in head]
    return ", ".join(texts) + (", …" if array.size > len(texts) else "")


# Reading.


def unpack_stage(blob: bytes, stage_id: int, load: Callable[[int], Stage]) -> Stage:
    """The stage in a blob; `load` gets the stage before it by its id in the run.

    Raises ValueError if the blob is damaged or of a later format.
    """
    try:
        document = json.loads(zlib.decompress(blob))
        if document["format"] not in FORMATS:
            raise ValueError(f"it is of format {document['format']}, and this version reads up to {FORMAT}")
        return _build(document, stage_id, load)
    except (zlib.error, TypeError, LookupError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _build(document: dict[str, Any], stage_id: int, load: Callable[[int], Stage]) -> Stage:
    strings: list[str] = document["strings"]
    ops = [_op(*row) for row in document["types"]]
    dtypes = [as_dtype(name) for name in document["dtypes"]]
    shapes = [_shape(dims) for dims in document["shapes"]]
    frames = frames_from_json(document["frames"])
    sites = [Site(frames=tuple(frames[i] for i in site)) for site in document["sites"]]
    groups = [tuple(strings[i] for i in group) for group in document.get("groups", ())]
    nodes: dict[str, StageNode] = {}
    for (
        name,
        op,
        inputs,
        control_inputs,
        device,
        input_dtypes,
        output_dtypes,
        output_shapes,
        site,
        sources,
        by,
        reason,
        original,
        attrs,
        *decided,
    ) in document["nodes"]:
        nodes[strings[name]] = StageNode(
            name=strings[name],
            opdef=ops[op],
            inputs=tuple((strings[source], slot) for source, slot in zip(inputs[::2], inputs[1::2])),
            control_inputs=tuple(strings[source] for source in control_inputs),
            attrs=MappingProxyType({key: decode_attr(value) for key, value in attrs.items()}),
            device=strings[device],
            input_dtypes=tuple(dtypes[i] for i in input_dtypes),
            output_dtypes=tuple(dtypes[i] for i in output_dtypes),
            output_shapes=tuple(shapes[i] for i in output_shapes),
            site=None if site is None else sites[site],
            lineage=Lineage(tuple(strings[i] for i in sources), strings[by], strings[reason]),
            original=strings[original],
            decision=_decision(decided[0], strings, groups) if decided and decided[0] else None,
        )
    fields = {
        "id": stage_id,
        "name": document["name"],
        "nodes": MappingProxyType(nodes),
        "removed": MappingProxyType(document["removed"]),
        "graph_version": document["graph_version"],
    }
    fields.update({key: tuple(document[key]) for key in ("feeds", "fetches", "targets")})
    return RecordedStage(load, document["before"], fields)


def _decision(row: list[Any], strings: list[str], groups: list[tuple[str, ...]]) -> Decision:
    requested, possible, finish, colocated, reason = row
    return Decision(
        requested=strings[requested],
        possible=groups[possible],
        finish_ns=MappingProxyType(dict(zip([strings[i] for i in finish[::2]], finish[1::2]))),
        colocated_with=groups[colocated],
        reason=strings[reason],
    )


def _op(name: str, stateful: bool, flow: str) -> OpDef:
    return lookup(name) or cast(OpDef, RecordedOp(name, stateful, flow))


def _shape(dims: list[int | None] | None) -> TensorShape:
    return TensorShape(None) if dims is None else TensorShape.of(tuple(dims))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "float": float,
    "type": as_dtype,
    "shape": _shape,
    "tensor": lambda text: columns.unpack(base64.b64decode(text))["value"],
    "summary": lambda row: TensorSummary(row[0], tuple(row[1]), row[2], row[3]),
    "bytes": base64.b64decode,
    "repr": Unstored,
}


def decode_attr(value: Any) -> Any:
    """What `encode_attr` wrote; lists come back as tuples, large tensors as TensorSummary, what had no form as Unstored."""
    if isinstance(value, list):
        return tuple(decode_attr(item) for item in value)
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        return _DECODERS[kind](content)
    return value
