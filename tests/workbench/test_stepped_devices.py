"""The devices and the rendezvous of a step that is being debugged."""

from __future__ import annotations

import json
from typing import Any

import engine as tf
from viz.devices_model import Waiting
from workbench.debugger.core import Debugger
from workbench.debugger.snapshot import Snapshot, from_dict, to_dict
from workbench.tui.live_devices import live_view


class Stepper:
    """A front that steps node by node and keeps what it is shown."""

    def __init__(self) -> None:
        self.stops: list[Snapshot] = []

    def stopped(self, debugger: Debugger) -> None:
        self.stops.append(debugger.snapshot())

    def command(self, debugger: Debugger) -> str:
        return "n"

    def answered(self, debugger: Debugger, answer: Any) -> None:
        self.stops.append(debugger.snapshot())

    def resumed(self, debugger: Debugger) -> None:
        pass

    def left(self, debugger: Debugger) -> None:
        pass


def stepped(**config: Any) -> list[Snapshot]:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [4], name="x")
        with tf.device("/CPU:0"):
            a = tf.exp(x, name="a")
        with tf.device("/GPU:0" if "gpu_options" in config else "/CPU:1"):
            b = tf.sin(a, name="b")
        front = Stepper()
        with Debugger(front).installed(), tf.Session(config=tf.ConfigProto(**config)) as session:
            session.run(b, {x: [1.0, 2.0, 3.0, 4.0]})
    return front.stops


def test_who_waits_for_what_can_be_seen_at_every_stop() -> None:
    stops = stepped(device_count={"CPU": 2})
    assert [len(each.devices) for each in stops if each.step is not None] == [2] * len(stops)
    awaited = [each for each in stops if each.awaited]
    assert awaited and not stops[-1].awaited and not stops[-1].sent
    first = awaited[0].awaited[0]
    assert first.node.endswith("_Recv_CPU_1") and first.waited_ns >= 0 and first.path == "root"
    view = live_view(awaited[0])
    assert view.live and {device.name[-5:] for device in view.devices} == {"CPU:0", "CPU:1"}
    waiting = view.waiting[0]
    assert isinstance(waiting, Waiting)
    assert (waiting.tensor, waiting.source[-5:], waiting.destination[-5:]) == ("a", "CPU:0", "CPU:1")
    # Between the _Send and the _Recv the tensor lies there.
    lying = [each for each in stops if each.sent]
    assert lying and all(parcel.nbytes == 16 for each in lying for parcel in each.sent)
    assert {tensor.tensor for each in lying for tensor in live_view(each).sent} >= {"a"}


def test_a_modelled_device_says_so_and_how_full_it_is() -> None:
    stops = stepped(device_count={"GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))
    last = stops[-1]
    gpu = next(state for state in last.devices if state.type == "GPU")
    assert gpu.modelled and "modelled" in gpu.description and gpu.peak > 0 and gpu.streams
    for each in stops:
        assert from_dict(json.loads(json.dumps(to_dict(each), allow_nan=False))) == each


def test_one_cpu_has_nothing_to_tell() -> None:
    with tf.Graph().as_default():
        y = tf.sqrt(tf.placeholder_with_default(4.0, [], name="x"), name="y")
        front = Stepper()
        with Debugger(front).installed(), tf.Session() as session:
            session.run(y)
    assert all(each.devices == () and each.awaited == () and each.sent == () for each in front.stops)
    assert "only device" in live_view(front.stops[0]).note
