"""Device specs in placement: which devices fit one, which of them comes first, and what two specs say together.

Merging follows TensorFlow's `DeviceNameUtils::MergeDevNames`, preference its device factories' priorities.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.types.device import DeviceSpec

if TYPE_CHECKING:
    from engine.device.device import Device

ANY = DeviceSpec()
# TensorFlow's priorities: a kind of device that somebody registers comes after these, so it is used where it is asked for.
_PRIORITY = {"GPU": 210, "CPU": 70}
_REGISTERED = 50


class MergeError(Exception):
    """Two specs that no device fits both of."""


@lru_cache(maxsize=4096)
def spec_of(text: str) -> DeviceSpec:
    """The spec that `text` writes out; not to be changed."""
    return DeviceSpec.from_string(text) if text else ANY


def by_preference(devices: Sequence[Device]) -> tuple[Device, ...]:
    """The devices, the kinds with the highest priority first; those of one kind in the order in which they were given."""
    return tuple(sorted(devices, key=lambda device: -_PRIORITY.get(device.type, _REGISTERED)))


def merge(a: DeviceSpec, b: DeviceSpec, soft: bool) -> DeviceSpec:
    """What `a` and `b` say together.

    Raises MergeError, in TensorFlow's words, if they contradict each other; with `soft`, contradicting device types or
    numbers are left open instead.
    """
    if a is b or b == ANY:
        return a
    if a == ANY:
        return b
    if a.is_compatible_with(b):
        return a.make_merged_spec(b)
    for part, plural in (("job", "jobs"), ("replica", "replicas"), ("task", "tasks")):
        if _differ(a, b, part):
            raise MergeError(f"Cannot merge devices with incompatible {plural}: '{a}' and '{b}'")
    merged = a.make_merged_spec(b)
    if _differ(a, b, "device_type"):
        if soft:
            return merged.replace(device_type=None, device_index=None)
        raise MergeError(f"Cannot merge devices with incompatible types: '{a}' and '{b}'")
    if soft:
        return merged.replace(device_index=None)
    raise MergeError(f"Cannot merge devices with incompatible ids: '{a}' and '{b}'")


def _differ(a: DeviceSpec, b: DeviceSpec, part: str) -> bool:
    x, y = getattr(a, part), getattr(b, part)
    return x is not None and y is not None and x != y
