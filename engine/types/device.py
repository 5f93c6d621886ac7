"""Device specs: ``/job:worker/replica:0/task:1/device:GPU:0``, any part of which may be left out.

A spec is what a user writes in `Graph.device`, what a node carries, and what names a device; matching and merging follow
TensorFlow 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_JOB = re.compile(r"[a-zA-Z][_a-zA-Z0-9]*\Z")
_TYPE = re.compile(r"[a-zA-Z][_a-zA-Z0-9]*\Z")
_FIELDS = ("job", "replica", "task", "device_type", "device_index")


class DeviceSpec:
    """A device, or some of it: every part may be None, which stands for any.

    Immutable, except through `parse_from_string` and `merge_from`, which are TensorFlow 1's.
    """

    __slots__ = ("_device_index", "_device_type", "_job", "_replica", "_task")

    def __init__(
        self,
        job: str | None = None,
        replica: int | None = None,
        task: int | None = None,
        device_type: str | None = None,
        device_index: int | None = None,
    ) -> None:
        self._job = job
        self._replica = _number(replica)
        self._task = _number(task)
        self._device_type = _type_name(device_type)
        self._device_index = _number(device_index)

    @property
    def job(self) -> str | None:
        """The job's name."""
        return self._job

    @property
    def replica(self) -> int | None:
        """The replica's number."""
        return self._replica

    @property
    def task(self) -> int | None:
        """The task's number in the job."""
        return self._task

    @property
    def device_type(self) -> str | None:
        """The kind of device: 'CPU', 'GPU', …"""
        return self._device_type

    @property
    def device_index(self) -> int | None:
        """The device's number among its kind in the task."""
        return self._device_index

    def _parts(self) -> tuple[Any, ...]:
        return (self._job, self._replica, self._task, self._device_type, self._device_index)

    @classmethod
    def from_string(cls, spec: str) -> DeviceSpec:
        """The spec that `spec` writes out; also the short forms ``/cpu:0`` and ``/gpu:*``.  Raises ValueError if it is none."""
        return cls().parse_from_string(spec)

    def parse_from_string(self, spec: str) -> DeviceSpec:
        """Become what `spec` says; returns self.  Raises ValueError, naming the piece, if it is not a device spec."""
        found: dict[str, Any] = dict.fromkeys(_FIELDS)

        def put(name: str, value: Any, piece: str) -> None:
            if found[name] is not None:
                raise ValueError(
                    f"device spec '{spec}' gives the {name.replace('_', ' ')} twice (at '{piece}')"
                )
            found[name] = value

        for piece in filter(None, spec.split("/")):
            words = piece.split(":")
            kind, values = words[0], words[1:]
            if kind == "job" and len(values) == 1 and _JOB.match(values[0]):
                put("job", values[0], piece)
            elif kind in ("replica", "task") and len(values) == 1 and _index(values[0]):
                put(kind, None if values[0] == "*" else int(values[0]), piece)
            elif kind == "device" and 1 <= len(values) <= 2:
                self._put_device(put, values, piece, spec)
            elif kind.lower() in ("cpu", "gpu") and len(values) <= 1:
                self._put_device(put, words, piece, spec)
            else:
                raise ValueError(
                    f"'{piece}' in device spec '{spec}' is not understood: "
                    "write it as '/job:worker/replica:0/task:1/device:GPU:0', leaving out what may be any"
                )
        for name, value in found.items():
            setattr(self, "_" + name, value)
        return self

    @staticmethod
    def _put_device(put: Callable[[str, Any, str], None], words: list[str], piece: str, spec: str) -> None:
        if words[0] != "*":
            if not _TYPE.match(words[0]):
                raise ValueError(f"'{words[0]}' in device spec '{spec}' is not a kind of device")
            put("device_type", _type_name(words[0]), piece)
        if len(words) == 2 and words[1] != "*":
            if not _index(words[1]):
                raise ValueError(f"'{words[1]}' in device spec '{spec}' is not a device's number")
            put("device_index", int(words[1]), piece)

    def to_string(self) -> str:
        """The spec written out; '' if nothing is given.  A kind without a number is written ``/device:GPU:*``."""
        text = "" if self._job is None else "/job:" + self._job
        if self._replica is not None:
            text += f"/replica:{self._replica}"
        if self._task is not None:
            text += f"/task:{self._task}"
        if self._device_type is not None or self._device_index is not None:
            kind = "*" if self._device_type is None else self._device_type
            index = "*" if self._device_index is None else self._device_index
            text += f"/device:{kind}:{index}"
        return text

    def make_merged_spec(self, dev: DeviceSpec) -> DeviceSpec:
        """A new spec: `dev`'s parts where it has them, this one's elsewhere."""
        return DeviceSpec(
            *[b if b is not None else a for a, b in zip(self._parts(), dev._parts(), strict=True)]
        )

    def merge_from(self, dev: DeviceSpec) -> None:
        """Take over those parts that `dev` has."""
        merged = self.make_merged_spec(dev)
        for name in _FIELDS:
            setattr(self, "_" + name, getattr(merged, "_" + name))

    def replace(self, **parts: Any) -> DeviceSpec:
        """A new spec, with these parts in place of this one's."""
        return DeviceSpec(**{**dict(zip(_FIELDS, self._parts(), strict=True)), **parts})

    def matches(self, other: DeviceSpec) -> bool:
        """Whether `other` is a device that this (partial) spec allows: every part given here is the same there."""
        return all(a is None or a == b for a, b in zip(self._parts(), other._parts(), strict=True))

    def is_compatible_with(self, other: DeviceSpec) -> bool:
        """Whether some device fits both specs."""
        return all(
            a is None or b is None or a == b for a, b in zip(self._parts(), other._parts(), strict=True)
        )

    def is_fully_specified(self) -> bool:
        """Whether every part is given."""
        return None not in self._parts()

    def __eq__(self, other: object) -> bool:
        return self._parts() == other._parts() if isinstance(other, DeviceSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_string())

    def __str__(self) -> str:
        return self.to_string()

    def __repr__(self) -> str:
        given = ", ".join(f"{n}={v!r}" for n, v in zip(_FIELDS, self._parts(), strict=True) if v is not None)
        return f"DeviceSpec({given})"


def _index(text: str) -> bool:
    return text == "*" or text.isdecimal()


def _number(value: int | None) -> int | None:
    return None if value is None else int(value)


def _type_name(name: str | None) -> str | None:
    """CPU and GPU in capitals however they were written; other kinds as they are."""
    return name.upper() if name is not None and name.lower() in ("cpu", "gpu") else name


def canonical_name(device: str | DeviceSpec | None) -> str:
    """A spec, given either way, as a string in its full form; '' for None."""
    if device is None:
        return ""
    return (device if isinstance(device, DeviceSpec) else DeviceSpec.from_string(device)).to_string()


def merge_device(spec: str | DeviceSpec) -> Callable[[Any], str]:
    """A device function for `Graph.device`, that completes the spec of a node (anything with a `device` string) with `spec`.

    What the node already has stays: device blocks are applied from the innermost one outwards.
    """
    outer = spec if isinstance(spec, DeviceSpec) else DeviceSpec.from_string(spec or "")

    def merge(node: Any) -> str:
        return outer.make_merged_spec(DeviceSpec.from_string(node.device or "")).to_string()

    return merge
