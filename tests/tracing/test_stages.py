"""Stages written and read: every property that a reader may ask for comes back, and source lines outlive their files."""

from __future__ import annotations

import dataclasses
import linecache
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.passes.stage import Stage
from engine.types import dtypes
from engine.types.shape import TensorShape
from engine.types.site import Site
from tracing.stages import TensorSummary, Unstored, decode_attr, encode_attr, pack_stage, unpack_stage


def _round_trip(stage: Stage) -> Stage:
    """`stage` and the chain before it, written and read."""
    chain = stage.chain()
    blobs = {i: pack_stage(each, None if i == 0 else i - 1)[0] for i, each in enumerate(chain)}

    def load(i: int) -> Stage:
        return unpack_stage(blobs[i], i, load)

    return load(len(chain) - 1)


def test_a_stage_comes_back(synthetic: Any) -> None:
    several = synthetic.node(
        "split",
        "Split",
        "layer/matmul",
        "x:0",
        outputs=((dtypes.float32, None), (dtypes.int64._as_ref, (None, 4))),
        source="loss",
    )
    stage = synthetic.small_stage((several,))
    found = _round_trip(stage)
    assert isinstance(found, Stage)
    for mine, theirs in zip(found.chain(), stage.chain(), strict=True):
        for key in ("name", "feeds", "fetches", "targets", "graph_version", "order", "consumers"):
            assert getattr(mine, key) == getattr(theirs, key), key
        assert dict(mine.removed) == dict(theirs.removed)
        assert len(mine) == len(theirs)
        for name, node in theirs.nodes.items():
            read = mine.nodes[name]
            for key in (
                "name",
                "type",
                "inputs",
                "control_inputs",
                "device",
                "input_dtypes",
                "output_dtypes",
                "lineage",
            ):
                assert getattr(read, key) == getattr(node, key), key
            assert [s.dims_or_none for s in read.output_shapes] == [
                s.dims_or_none for s in node.output_shapes
            ]
            assert read.site is not None and node.site is not None
            assert read.site.frames == node.site.frames
            assert read.site.user == node.site.user
            assert [f.source for f in read.site.frames] == [f.source for f in node.site.frames]
    assert found.origin("loss") == stage.origin("loss")
    assert found.before is found.before


def test_attrs_come_back(synthetic: Any) -> None:
    stage = _round_trip(synthetic.small_stage())
    assert stage.nodes["x"].attrs["dtype"] is dtypes.float32
    assert stage.nodes["x"].attrs["shape"].as_list() == [None, 2]
    assert stage.nodes["layer/w"].attrs["value"].tolist() == [[0, 1, 2], [3, 4, 5]]
    big = stage.nodes["layer/big"].attrs["value"]
    assert big == TensorSummary("float32", (100, 100), 40_000, "1.0, 1.0, 1.0, 1.0, 1.0, 1.0, …")
    assert "40,000 bytes" in str(big)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -(2**70), 1.5, -0.0, math.inf, -math.inf, "", "é\udc80", b"\x00\xff", ()),
        *(dtypes.bfloat16, dtypes.string_ref, TensorShape(None), TensorShape([]), TensorShape([None, 3])),
        *((1, 2), (dtypes.int32, dtypes.bool_), (TensorShape([1]), TensorShape(None)), ("a", ("b",))),
    ],
    ids=repr,
)
def test_every_kind_of_attr_comes_back(value: Any) -> None:
    found = decode_attr(encode_attr(value))
    assert repr(found) == repr(value)
    assert type(found) is type(value)


def test_attrs_without_a_stored_form_say_what_they_were() -> None:
    assert math.isnan(decode_attr(encode_attr(math.nan)))
    assert decode_attr(encode_attr(np.int64(7))) == 7
    assert decode_attr(encode_attr(np.float32(0.5))) == 0.5
    assert decode_attr(encode_attr([1, 2])) == (1, 2)
    assert str(decode_attr(encode_attr(slice(1, 2)))) == "slice(1, 2, None)"
    assert isinstance(decode_attr(encode_attr(np.array([object()]))), Unstored)


def test_tensors_of_strings() -> None:
    short = np.array([b"ab", b""], object)
    assert decode_attr(encode_attr(short)).tolist() == [b"ab", b""]
    long = decode_attr(encode_attr(np.array([b"x" * 2000, b"y"], object)))
    assert isinstance(long, TensorSummary)
    assert long.dtype == "string"
    assert long.shape == (2,)


def test_source_lines_outlive_their_file(tmp_path: Path, synthetic: Any) -> None:
    script = tmp_path / "gone.py"
    script.write_text("from engine.types.site import capture\nhere = capture()  # the line\n")
    made: dict[str, Site] = {}
    exec(compile(script.read_text(), str(script), "exec"), made)
    stage = synthetic.small_stage((synthetic.node("made", "NoOp", site=made["here"]),))
    blob, files = pack_stage(stage.before, None)
    assert str(script) in files
    script.unlink()
    linecache.clearcache()
    found = unpack_stage(blob, 1, lambda _: stage)
    site = found.nodes["made"].site
    assert site is not None and site.user is not None
    assert (site.user.file, site.user.line) == (str(script), 2)
    assert site.user.source == "here = capture()  # the line"


def test_damage_is_a_value_error(synthetic: Any) -> None:
    blob, _ = pack_stage(synthetic.small_stage().before, None)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(blob)
        damaged[int(rng.integers(len(blob)))] ^= 1 << int(rng.integers(8))
        with pytest.raises(ValueError):
            unpack_stage(bytes(damaged[: int(rng.integers(1, len(blob)))]), 1, lambda _: None)  # type: ignore[arg-type, return-value]


def test_a_later_format_is_refused(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracing.stages.FORMAT", 3)
    blob, _ = pack_stage(synthetic.small_stage().before, None)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 3"):
        unpack_stage(blob, 1, lambda _: None)  # type: ignore[arg-type, return-value]


def test_decisions_of_placement_come_back() -> None:
    import engine as tf

    with tf.Graph().as_default():
        with tf.device("/CPU:1"):
            x = tf.placeholder(tf.float32, [4], name="x")
        y = tf.square(x, name="y")
        config = tf.ConfigProto(device_count={"CPU": 2}, placement="greedy")
        stage = tf.Session(config=config).stage_for(y, [x])
    before: dict[int, Any] = {}
    for each in stage.chain():
        blob, _ = pack_stage(each, None if each.before is None else each.before.id)
        before[each.id] = unpack_stage(blob, each.id, lambda stage_id: before[stage_id])  # type: ignore[arg-type]
    found = before[stage.id]
    assert {name: node.decision for name, node in found.nodes.items()} == {
        name: node.decision
        and dataclasses.replace(
            node.decision, finish_ns={device: round(ns, 1) for device, ns in node.decision.finish_ns.items()}
        )
        for name, node in stage.nodes.items()
    }
    assert any(node.decision is not None and node.decision.finish_ns for node in found)
    assert before[stage.chain()[0].id].nodes["y"].decision is None
