"""The event file, read back by TensorBoard itself: its loader, its accumulator, and its web server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto import config_pb2, graph_pb2

from engine.observe import TraceLevel
from tracing.histograms import Histogram
from tracing.recorder import Recorder

Recorders = Callable[..., Recorder]


@pytest.fixture
def recorded(recorders: Recorders, synthetic: Any) -> Path:
    """A run of thirteen steps of one signature and one of another, with scalars and histograms, and a node named `length`."""
    recorder = recorders(TraceLevel.VALUES, tensorboard=True)
    awkward = synthetic.node("length", "Neg", "x")
    after = synthetic.node("after", "Add", "length", "length:1", "^length")
    stage = synthetic.small_stage((awkward, after))
    for step in range(1, 14):
        synthetic.run_step(recorder, stage, step, count=7)
        recorder.scalar("loss", 1 / step, step)
        recorder.histogram("weights", Histogram.of(np.linspace(-step, step, 100)), step)
    synthetic.run_step(recorder, synthetic.small_stage(), 14, count=5)
    recorder.close()
    return recorder.path


def _event_file(path: Path) -> str:
    (found,) = path.glob("events.out.tfevents.*")
    return str(found)


def test_the_loader_reads_every_event(recorded: Path) -> None:
    events = list(LegacyEventFileLoader(_event_file(recorded)).Load())
    assert events[0].file_version == "brain.Event:2"
    kinds = [event.WhichOneof("what") for event in events]
    assert kinds.count("graph_def") == 2
    tags = [
        event.tagged_run_metadata.tag for event in events if event.WhichOneof("what") == "tagged_run_metadata"
    ]
    assert len(tags) == 11  # the first ten, and the first of the second signature
    assert len(set(tags)) == 11
    assert all(re.fullmatch(r"step_\d{4,}", tag) for tag in tags)
    assert all(event.wall_time > 1.6e9 for event in events)


def test_the_accumulator_has_graph_metadata_scalars_and_histograms(recorded: Path) -> None:
    accumulator = EventAccumulator(str(recorded), size_guidance={"scalars": 0, "histograms": 0}).Reload()
    tags = accumulator.Tags()
    assert "loss" in tags["scalars"] and "weights" in tags["histograms"]
    losses = accumulator.Scalars("loss")
    assert [event.step for event in losses] == list(range(1, 14))
    assert [event.value for event in losses] == pytest.approx([1 / step for step in range(1, 14)])
    histogram = accumulator.Histograms("weights")[2].histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (100, -3, 3)
    assert sum(histogram.bucket) == 100
    graph = graph_pb2.GraphDef.FromString(accumulator.Graph().SerializeToString())
    assert {node.name for node in graph.node} >= {"x", "layer/matmul", "unused"}
    tag = tags["run_metadata"][0]
    metadata = accumulator.RunMetadata(tag)
    assert len(metadata.step_stats.dev_stats[0].node_stats) == 6


def test_a_node_named_length_goes_by_another_name(recorded: Path) -> None:
    events = list(LegacyEventFileLoader(_event_file(recorded)).Load())
    graph = next(graph_pb2.GraphDef.FromString(event.graph_def) for event in events if event.graph_def)
    names = {node.name: node for node in graph.node}
    assert "length" not in names
    assert list(names["after"].input) == ["length_", "length_:1", "^length_"]
    first = next(event for event in events if event.WhichOneof("what") == "tagged_run_metadata")
    metadata = config_pb2.RunMetadata.FromString(first.tagged_run_metadata.run_metadata)
    recorded_names = {record.node_name for record in metadata.step_stats.dev_stats[0].node_stats}
    assert recorded_names <= set(names)


def test_steps_that_get_metadata(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders(TraceLevel.TIMES, tensorboard=True)
    stage = synthetic.small_stage()
    ids = [synthetic.run_step(recorder, stage, step, count=3).id for step in range(1, 220)]
    recorder.close()
    events = LegacyEventFileLoader(_event_file(recorder.path)).Load()
    tags = [
        event.tagged_run_metadata.tag for event in events if event.WhichOneof("what") == "tagged_run_metadata"
    ]
    assert tags == [f"step_{ids[n - 1]:04d}" for n in (*range(1, 11), 20, 50, 100, 200)]


def test_many_executions_of_a_node_become_one_record(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders(TraceLevel.VALUES, tensorboard=True)
    stage = synthetic.small_stage()
    info = synthetic.run_step(recorder, stage, count=10_000)
    recorder.close()
    accumulator = EventAccumulator(str(recorder.path)).Reload()
    (device,) = accumulator.RunMetadata(f"step_{info.id:04d}").step_stats.dev_stats
    assert sorted(record.node_name for record in device.node_stats) == sorted(stage.order)


def test_the_file_of_a_live_run_can_be_read(recorders: Recorders, synthetic: Any) -> None:
    recorder = recorders(TraceLevel.TIMES, tensorboard=True)
    recorder.scalar("loss", 0.25, 1)
    accumulator = EventAccumulator(str(recorder.path)).Reload()
    assert [event.value for event in accumulator.Scalars("loss")] == [0.25]


@pytest.fixture(
    params=[
        pytest.param("", id="fast server"),
        pytest.param("false", id="python server", marks=pytest.mark.deep),  # which reads the same files
    ]
)
def server(request: pytest.FixtureRequest, recorded: Path, tmp_path: Path) -> Iterator[str]:
    """TensorBoard's address, over the run directory as it stands."""
    log = tmp_path / "tensorboard.log"
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(recorded),
        "--port",
        "0",
        "--host",
        "127.0.0.1",
    ]
    if request.param:
        command += ["--load_fast", request.param]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "PYTHONWARNINGS": "ignore"}
        )
    try:
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        address = found.group()
        while not _get(address, "data/plugin/graphs/info"):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(100)


def _text(address: str, path: str, **parameters: str) -> str:
    with urllib.request.urlopen(
        f"{address}{path}?{urllib.parse.urlencode(parameters)}", timeout=100
    ) as reply:
        text: str = reply.read().decode()
    return text


def _get(address: str, path: str, **parameters: str) -> Any:
    return json.loads(_text(address, path, **parameters))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_web_server_shows_everything(server: str) -> None:
    info = _get(server, "data/plugin/graphs/info")
    (run,) = info
    assert info[run]["run_graph"] is True
    tags = info[run]["tags"]
    stages = [tag for tag in tags if tag.startswith("stages/")]
    assert [tag.partition("_")[2] for tag in sorted(stages)] == ["built", "pruned", "built", "pruned"]
    assert all(tags[tag]["op_graph"] and tags[tag]["profile"] for tag in stages)
    steps = sorted(tag for tag in tags if tag.startswith("step_"))
    assert steps and all(tags[tag]["profile"] and not tags[tag]["op_graph"] for tag in steps)

    graph = text_format.Parse(_text(server, "data/plugin/graphs/graph", run=run), graph_pb2.GraphDef())
    assert {node.name for node in graph.node} >= {"x", "layer/w", "layer/matmul", "loss", "unused"}

    metadata = _text(server, "data/plugin/graphs/run_metadata", run=run, tag=steps[0])
    records = text_format.Parse(metadata, config_pb2.RunMetadata()).step_stats.dev_stats[0].node_stats
    assert {record.node_name for record in records} >= {"x", "layer/matmul"}
    assert all(record.all_end_rel_micros >= 1 for record in records)
    assert all(output.tensor_description.HasField("shape") for record in records for output in record.output)

    pruned = next(tag for tag in stages if tag.endswith("02_pruned"))
    graph = text_format.Parse(
        _text(server, "data/plugin/graphs/graph", run=run, tag=pruned), graph_pb2.GraphDef()
    )
    names = {node.name for node in graph.node}
    assert "unused" not in names and "loss" in names
    metadata = _text(server, "data/plugin/graphs/run_metadata", run=run, tag=pruned)
    records = text_format.Parse(metadata, config_pb2.RunMetadata()).step_stats.dev_stats[0].node_stats
    assert {record.node_name for record in records} <= names

    assert list(_get(server, "data/plugin/scalars/tags")[run]) == ["loss"]
    scalars = _get(server, "data/plugin/scalars/scalars", run=run, tag="loss")
    assert [row[1] for row in scalars] == list(range(1, 14))
    assert scalars[3][2] == pytest.approx(0.25)
    assert list(_get(server, "data/plugin/histograms/tags")[run]) == ["weights"]
    histograms = _get(server, "data/plugin/histograms/histograms", run=run, tag="weights")
    assert len(histograms) == 13
    assert sum(bucket[2] for bucket in histograms[0][2]) == pytest.approx(100)
