"""Device specs: writing, reading, merging, matching."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types.device import DeviceSpec, canonical_name, merge_device

numbers = st.none() | st.integers(0, 12)
specs = st.builds(
    DeviceSpec,
    st.none() | st.sampled_from(["worker", "ps", "localhost"]),
    numbers,
    numbers,
    st.none() | st.sampled_from(["CPU", "GPU", "TPU_CORE"]),
    numbers,
)


@given(specs)
def test_round_trip(spec: DeviceSpec) -> None:
    again = DeviceSpec.from_string(spec.to_string())
    assert again == spec
    assert hash(again) == hash(spec)
    assert canonical_name(spec) == canonical_name(spec.to_string()) == spec.to_string()


@given(specs, specs, specs)
def test_merging(a: DeviceSpec, b: DeviceSpec, c: DeviceSpec) -> None:
    merged = a.make_merged_spec(b)
    for part in ("job", "replica", "task", "device_type", "device_index"):
        theirs = getattr(b, part)
        assert getattr(merged, part) == (getattr(a, part) if theirs is None else theirs)
    assert merged.make_merged_spec(c) == a.make_merged_spec(b.make_merged_spec(c))
    assert b.matches(merged)
    in_place = a.replace()
    in_place.merge_from(b)
    assert in_place == merged


@given(specs, specs)
def test_matching_and_compatibility(a: DeviceSpec, b: DeviceSpec) -> None:
    assert DeviceSpec().matches(a)
    assert a.matches(a)
    assert a.is_compatible_with(b) == (a.make_merged_spec(b) == b.make_merged_spec(a))
    if a.matches(b):
        assert a.is_compatible_with(b)


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("", ""),
        ("/", ""),
        ("/cpu:0", "/device:CPU:0"),
        ("cpu:0", "/device:CPU:0"),
        ("/gpu:*", "/device:GPU:*"),
        ("/GPU:1", "/device:GPU:1"),
        ("/device:gpu:1", "/device:GPU:1"),
        ("/device:GPU", "/device:GPU:*"),
        ("/device:*:3", "/device:*:3"),
        ("/task:1/job:ps", "/job:ps/task:1"),
        ("/job:worker/replica:*/task:1/device:GPU:0", "/job:worker/task:1/device:GPU:0"),
        ("/job:worker/replica:0/task:1/device:GPU:0", "/job:worker/replica:0/task:1/device:GPU:0"),
        ("/device:XLA_CPU:0", "/device:XLA_CPU:0"),
    ],
)
def test_forms(text: str, canonical: str) -> None:
    assert canonical_name(text) == canonical


@pytest.mark.parametrize(
    "text, piece",
    [
        ("/job:", "job:"),
        ("/job:1a", "job:1a"),
        ("/tusk:0", "tusk:0"),
        ("/task:x", "task:x"),
        ("/task:-1", "task:-1"),
        ("/device:GPU:x", "x"),
        ("/device:", "not a kind"),
        ("/cpu:0/gpu:0", "twice"),
        ("/job:a/job:b", "twice"),
        ("/gpu:0:1", "gpu:0:1"),
    ],
)
def test_what_is_no_spec_names_the_piece(text: str, piece: str) -> None:
    with pytest.raises(ValueError, match=piece):
        DeviceSpec.from_string(text)


def test_device_function_completes_but_does_not_override() -> None:
    function = merge_device("/job:worker/device:GPU:0")
    assert function(SimpleNamespace(device="")) == "/job:worker/device:GPU:0"
    assert function(SimpleNamespace(device="/cpu:1")) == "/job:worker/device:CPU:1"
    assert function(SimpleNamespace(device="/job:ps/task:3")) == "/job:ps/task:3/device:GPU:0"


def test_texts() -> None:
    assert repr(DeviceSpec(job="ps", task=1)) == "DeviceSpec(job='ps', task=1)"
    assert str(DeviceSpec(device_type="gpu")) == "/device:GPU:*"
    assert DeviceSpec("a", 0, 0, "CPU", 0).is_fully_specified()
    assert canonical_name(None) == ""
