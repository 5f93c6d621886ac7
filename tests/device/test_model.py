"""The modelled GPU: order on its streams, its memory, its times, and that nobody mistakes its arrays for the host's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_runs import modelled, nodes_of, run_node
from searches import examples

import engine as tf
from engine.device.device import make_devices
from engine.device.modelled.parameters import GPUModel
from engine.device.modelled.streams import Clock, VirtualStream
from engine.runtime.config import ConfigProto, GPUOptions
from engine.types import errors

NODE = SimpleNamespace(name="here")
F32 = np.dtype(np.float32)


def only(**parameters: Any) -> Any:
    return modelled(**{"capacity": 2**26, **parameters})[1]


# Order.


def test_reading_what_another_stream_makes_needs_its_event() -> None:
    gpu = only()
    with gpu.compute.use():
        array = gpu.backend.empty((4,), F32, "x")
    gpu.backend.upload(np.ones(4, np.float32), array, gpu.h2d)
    with (
        pytest.raises(
            errors.InternalError,
            match=r"'x' was made on stream 'h2d' of /device:GPU:0, and is read on stream 'compute'",
        ),
        gpu._in_kernel(NODE),
    ):
        gpu.xp.add(array, array)
    gpu.compute.wait(gpu.h2d.record())
    with gpu._in_kernel(NODE):
        total = gpu.xp.add(array, array)
    assert gpu.get(total).tolist() == [2.0] * 4


def test_memory_freed_under_a_copy_must_not_be_given_out_again() -> None:
    gpu = only()
    with gpu._in_kernel(NODE):
        array = gpu.xp.ones(4, np.float32)
    gpu.d2h.wait(gpu.compute.record())
    gpu.backend.download(array, gpu.d2h)
    del array  # nobody holds it until the copy is done
    with (
        pytest.raises(
            errors.InternalError, match="was freed while stream 'd2h' of /device:GPU:0 may still be using it"
        ),
        gpu._in_kernel(NODE),
    ):
        gpu.xp.zeros(4, np.float32)
    gpu.d2h.synchronize()
    with gpu._in_kernel(NODE):
        gpu.xp.zeros(4, np.float32)


def test_overwriting_what_another_stream_reads() -> None:
    gpu = only()
    with gpu._in_kernel(NODE):
        array = gpu.xp.ones(4, np.float32)
    gpu.d2h.wait(gpu.compute.record())
    gpu.backend.download(array, gpu.d2h)
    with (
        pytest.raises(errors.InternalError, match="is overwritten on stream 'compute'"),
        gpu._in_kernel(NODE),
    ):
        array[...] = 0


@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("work"), st.integers(0, 2), st.integers(0, 0)),
            st.tuples(st.just("wait"), st.integers(0, 2), st.integers(0, 2)),
            st.tuples(st.just("host"), st.integers(0, 2), st.integers(0, 0)),
        ),
        max_size=25,
    ),
    delay=st.sampled_from([0.0, 50.0]),
    seed=st.integers(0, 3),
)
@examples(60)
def test_known_order_is_reachability(actions: list[Any], delay: float, seed: int) -> None:
    """What a stream knows to be done is what a graph of all that was asked for says, whatever the delays."""
    clock = Clock(seed)
    streams = [VirtualStream(str(i), "d", clock, delay, [], lambda: None) for i in range(3)]
    before: dict[Any, set[Any]] = {}  # work → works that it comes after
    last: list[set[Any]] = [set(), set(), set()]  # what comes before anything given to the stream now
    host: set[Any] = set()
    works: list[Any] = []
    for kind, i, j in actions:
        if kind == "work":
            number, start, end = streams[i].submit(10.0)
            work = (i, number)
            before[work] = last[i] | host
            last[i] = before[work] | {work}
            works.append(work)
            assert end == start + 10.0
        elif kind == "wait":
            streams[i].wait(streams[j].record())
            last[i] |= last[j]
        else:
            streams[i].synchronize()
            host |= last[i]
    for i, stream in enumerate(streams):
        for other, number in works:
            assert stream.knows(streams[other], number) == ((other, number) in last[i] | host)


def test_a_fetch_holds_what_it_copies() -> None:
    """The device's own code: put, run, get and copy in a row, with delays, never out of order."""
    cpu, first, second = modelled(2, capacity=2**26, delay_ns=20_000, seed=11)
    with tf.Graph().as_default() as graph:
        a, b = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
        tf.matmul(a, b, name="product")
    node = nodes_of(graph)["product"]
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(5, 5)).astype(np.float32) for _ in range(2))
    wanted = x
    held = first.put(x)
    for i in range(10):
        there, other = (first, second) if i % 2 == 0 else (second, first)
        (held,) = run_node(there, node, [held, there.put(y)])
        held = other.copy(held, there)
        wanted = wanted @ y
        wanted, scale = wanted / 4, np.float32(0.25)
        with other._in_kernel(NODE):
            other._await(held)
            held = held * scale
    np.testing.assert_allclose(first.get(first.copy(held, other)), wanted, rtol=1e-4)
    assert cpu.copy(held, other).shape == (5, 5)


def test_delays_change_times_and_nothing_else() -> None:
    results, ends = [], []
    for delay in (0.0, 1e6):
        gpu = only(delay_ns=delay)
        with gpu._in_kernel(NODE):
            x = gpu.xp.arange(8, dtype=np.float32)
        results.append(gpu.get(x).tolist())
        ends.append(gpu.clock.now)
    assert results[0] == results[1]
    assert ends[0] < ends[1]


# Memory.


def test_out_of_memory_names_the_op_and_the_largest() -> None:
    gpu = only(capacity=900_000)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, name="x")
        tf.exp(x, name="big")
    node = nodes_of(graph)["big"]
    kept = [run_node(gpu, node, [gpu.put(np.zeros(n * 1000, np.float32))])[0] for n in (20, 60, 40)]
    before = gpu.statistics().in_use
    with pytest.raises(errors.ResourceExhaustedError) as caught:
        run_node(gpu, node, [np.zeros(60_000, np.float32)])
    text = str(caught.value)
    assert "a temporary of big on /device:GPU:0 (modelled)" in text
    assert "240,128 bytes" in text and f"of {900_000:,} are in use" in text
    sizes = [int(line.split()[0].replace(",", "")) for line in text.splitlines() if line.startswith("  ")]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) <= 10
    assert "big:0" in text and "x:0" in text
    # Nothing has leaked, and what fits still runs.
    kept.pop(1)
    run_node(gpu, node, [gpu.put(np.zeros(1000, np.float32))])
    del kept
    gpu.reclaim()
    assert gpu.statistics().in_use <= before
    assert gpu.statistics().peak <= 900_000


def test_memory_is_counted_to_the_byte() -> None:
    gpu = only()
    a = gpu.put(np.zeros(1, np.float32))
    b = gpu.put(np.zeros((100, 100), np.float64), "matrix")
    gpu.synchronize()
    found = gpu.statistics()
    assert (found.in_use, found.peak, found.allocations) == (512 + 80_384, 512 + 80_384, 2)
    assert found.alive[0] == ("matrix", 80_384)
    with gpu._in_kernel(NODE):
        view = b.T[3:]
    assert gpu.statistics().in_use == 512 + 80_384  # a view is no allocation
    del a, b
    assert gpu.statistics().in_use == 80_384
    del view
    assert gpu.statistics().in_use == 0
    assert gpu.statistics().limit == 2**26 and "modelled" in found.counted


def test_freed_memory_is_overwritten() -> None:
    gpu = only()
    array = gpu.put(np.ones(8, np.uint8))
    gpu.synchronize()
    behind = array._data  # a pointer that outlives its memory
    del array
    assert behind.tolist() == [0xCB] * 8


def test_memory_fraction() -> None:
    options = GPUOptions(modelled=GPUModel(capacity=1000), per_process_gpu_memory_fraction=0.25)
    gpu = make_devices(ConfigProto(device_count={"GPU": 1}, gpu_options=options))[1]
    assert gpu.memory_limit == gpu.statistics().limit == 250


# Whose arrays they are.


def test_the_host_cannot_use_them() -> None:
    gpu = only()
    array = gpu.put(np.ones((2, 3), np.float32), "w:0")
    uses = [
        np.asarray,
        np.sum,
        lambda x: np.add(x, 1),
        lambda x: x + 1,
        lambda x: x.sum(),
        float,
        list,
        lambda x: x[0],
    ]
    for use in uses:
        with pytest.raises(errors.InternalError) as caught:
            use(array)
        text = str(caught.value)
        assert (
            "'w:0', a float32 array of shape [2, 3] in the memory of /device:GPU:0 (modelled), was used on the host"
            in text
        )


def test_another_device_cannot_use_them() -> None:
    _, first, second = modelled(2)
    array = first.put(np.ones(3, np.float32), "w:0")
    with tf.Graph().as_default() as graph:
        tf.exp(tf.placeholder(tf.float32), name="e")
    with pytest.raises(
        errors.InternalError, match=r"memory of /device:GPU:0 \(modelled\) is used by /device:GPU:1"
    ):
        run_node(second, nodes_of(graph)["e"], [array])
    assert second.get(second.copy(array, first)).tolist() == [1.0] * 3


def test_kernels_cannot_read_them_with_numpy() -> None:
    gpu = only()
    array = gpu.put(np.ones(3, np.float32))
    gpu.synchronize()
    with gpu._in_kernel(NODE):
        with pytest.raises(TypeError, match=r"np\.sum was called with an array of /device:GPU:0"):
            np.sum(array)
        with pytest.raises(TypeError, match="Unsupported type"):
            gpu.xp.add(array, np.ones(3, np.float32))
        assert (np.float32(2) * array).tolist() == [2.0] * 3  # as CuPy has it


def test_a_misplaced_output_is_found() -> None:
    gpu = only()
    with tf.Graph().as_default() as graph:
        tf.exp(tf.placeholder(tf.float32), name="e")
    node = nodes_of(graph)["e"]
    k = SimpleNamespace(op=node, xp=gpu.xp)
    with pytest.raises(errors.InternalError, match="gave an output 0 that is in the host's memory"):
        gpu.run(lambda k, x: np.ones(3), k, [gpu.put(np.ones(3, np.float32))])


def test_it_says_that_it_is_modelled() -> None:
    gpu = only()
    assert gpu.modelled and "modelled" in gpu.description and "modelled" in repr(gpu)
    assert "NVIDIA H200" in gpu.description


# Time.


def test_a_product_takes_what_the_roofline_says() -> None:
    gpu = only(flops={"float32": 1e12}, bytes_per_second=1e12, launch_ns=1000, kernel_ns=100, capacity=2**28)
    with gpu._in_kernel(NODE):
        a = gpu.xp.ones((512, 512), np.float32)
        gpu.take_spans()
        gpu.xp.matmul(a, a)
        gpu.xp.add(a, a)
        gpu.xp.add(a[0, :4], a[0, :4])
    product, total, small = gpu.take_spans()
    assert product.end_ns - product.start_ns == pytest.approx(2 * 512**3 / 1e12 * 1e9)
    assert total.end_ns - total.start_ns == pytest.approx(3 * 512 * 512 * 4 / 1e12 * 1e9)
    assert small.end_ns - small.start_ns == pytest.approx(100)
    assert product.end_ns <= total.start_ns and total.end_ns <= small.start_ns
    assert {span.op for span in (product, total, small)} == {"here"}


def test_copies_take_latency_and_bandwidth() -> None:
    gpu = only(host_bytes_per_second=1e9, host_latency_ns=500, launch_ns=0)
    gpu.put(np.zeros(1000, np.float32))
    (span,) = gpu.take_spans()
    assert (span.stream, span.kind, span.nbytes) == ("h2d", "host to device", 4000)
    assert span.end_ns - span.start_ns == pytest.approx(500 + 4000)


def test_copies_overlap_with_kernels() -> None:
    gpu = only(kernel_ns=1e6, host_latency_ns=1e6, launch_ns=0)
    first = gpu.put(np.ones(4, np.float32))
    second = gpu.put(np.ones(4, np.float32))
    with gpu._in_kernel(NODE):
        gpu._await(first)
        first + first
    assert second is not None
    copies = [span for span in gpu.take_spans() if span.stream == "h2d"]
    facts = {stream.name: stream for stream in gpu.streams()}
    assert facts["compute"].tail_ns == pytest.approx(
        copies[0].end_ns + 1e6, rel=1e-3
    )  # not after the second copy
    assert facts["h2d"].submitted == 2 and facts["compute"].submitted == 1


def test_everything_is_the_same_again() -> None:
    def once() -> Any:
        gpu = only(delay_ns=10_000, seed=5)
        with gpu._in_kernel(NODE):
            x = gpu.xp.zeros(3, np.float32)
            x[gpu.xp.asarray(np.array([0, 0, 0, 1, 1]))] = gpu.xp.arange(5, dtype=np.float32)
        return gpu.get(x).tolist(), gpu.take_spans(), gpu.statistics()

    assert once() == once()


# What is put off.


def test_a_bad_index_is_told_when_somebody_waits() -> None:
    gpu = only()
    with tf.Graph().as_default() as graph:
        tf.gather(tf.placeholder(tf.float32, [4]), tf.placeholder(tf.int32), name="picked")
    node = nodes_of(graph)["picked"]
    params, good, bad = np.arange(4, dtype=np.float32), np.array([3, 0], np.int32), np.array([1, 7], np.int32)
    axis = np.array(0, np.int32)
    waits = gpu.statistics().synchronizations
    (fine,) = run_node(gpu, node, [gpu.put(params), gpu.put(good), axis])
    (wrong,) = run_node(gpu, node, [gpu.put(params), gpu.put(bad), axis])
    assert gpu.statistics().synchronizations == waits
    with pytest.raises(errors.InvalidArgumentError, match=r"indices\[1\] = 7 is not in \[0, 4\)") as caught:
        gpu.get(fine)
    assert caught.value.op is node
    assert gpu.get(fine).tolist() == [3.0, 0.0] and gpu.get(wrong).shape == (2,)  # told once


def test_a_constant_is_copied_once() -> None:
    gpu = only()
    with tf.Graph().as_default() as graph:
        tf.add(tf.placeholder(tf.float32), tf.placeholder(tf.float32), name="sum")
    node = nodes_of(graph)["sum"]
    constant = np.ones(3, np.float32)
    x = gpu.put(constant)
    for _ in range(3):
        run_node(gpu, node, [x, constant])
    assert sum(span.kind == "host to device" for span in gpu.take_spans()) == 2
    in_use = gpu.statistics().in_use
    del constant
    gpu.reclaim()
    assert gpu.statistics().in_use < in_use


# Asking for them.


def test_asking_for_gpus() -> None:
    assert [d.short_name for d in make_devices(ConfigProto())] == ["/device:CPU:0"]
    found = make_devices(
        ConfigProto(device_count={"CPU": 2, "GPU": 2}, gpu_options=GPUOptions(modelled=True))
    )
    assert [d.short_name for d in found] == [
        "/device:CPU:0",
        "/device:CPU:1",
        "/device:GPU:0",
        "/device:GPU:1",
    ]
    assert len({d.incarnation for d in found}) == 4
    assert found[2].link(found[3]).bytes_per_second == GPUModel().peer_bytes_per_second
    assert found[0].link(found[2]).bytes_per_second == GPUModel().host_bytes_per_second
    with pytest.raises(errors.InvalidArgumentError, match="'TPU', which is none of CPU, GPU"):
        make_devices(ConfigProto(device_count={"TPU": 1}))
    with pytest.raises(errors.InvalidArgumentError, match="0 or more"):
        make_devices(ConfigProto(device_count={"GPU": -1}))
    with pytest.raises(errors.InvalidArgumentError, match="must be True, False, 'auto' or a GPUModel"):
        make_devices(ConfigProto(device_count={"GPU": 1}, gpu_options=GPUOptions(modelled="yes")))
