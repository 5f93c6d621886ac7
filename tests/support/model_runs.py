"""Running single nodes on a device, without a session: what the tests of modelled and of real GPUs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from op_cases import Case, assert_close, build, cases, flat, placeholders

import engine as tf
from engine.device.device import Device, make_devices
from engine.device.modelled.parameters import GPUModel
from engine.op.registry import ANY, DEVICE, HOST
from engine.op.samples import Sample
from engine.passes.build import Builder
from engine.passes.stage import StageNode
from engine.runtime.config import ConfigProto, GPUOptions
from engine.runtime.context import KernelContext, StepContext
from engine.runtime.resources import ResourceManager
from engine.types.dtypes import string


def modelled(count: int = 1, **parameters: Any) -> tuple[Any, ...]:
    """The CPU and `count` modelled GPUs with these parameters."""
    options = GPUOptions(modelled=GPUModel(**parameters))
    return make_devices(ConfigProto(device_count={"GPU": count}, gpu_options=options))


def node_of(case: Case, sample: Sample) -> StageNode | None:
    """The node that `build` makes of the sample, its inputs' shapes unknown; None for an op without outputs."""
    with tf.Graph().as_default() as graph:
        outputs = build(case, sample, placeholders(flat(sample), shapes=False))
        if not outputs:
            return None
        return next(node for node in Builder(graph).stage() if node.type == case.op_type)


def nodes_of(graph: Any) -> dict[str, StageNode]:
    return dict(Builder(graph).stage().nodes)


def run_node(
    device: Device, node: StageNode, inputs: Sequence[Any], resources: ResourceManager | None = None
) -> list[Any]:
    """The outputs of the node's kernel on `device`; stateful ones with `resources`."""
    kernel = device.kernel(node.opdef, (*node.input_dtypes, *node.output_dtypes))
    assert kernel is not None, f"{node.type} has no kernel on {device.type}"
    k = KernelContext(node, device.xp)
    if node.opdef.stateful:
        if resources is None:
            resources = ResourceManager()
            resources.entropy = 1
        k = k.at(resources, StepContext(1, [], 0), 0, 0)
    with np.errstate(all="ignore"):
        result = device.run(kernel, k, inputs)
    return list(result) if isinstance(result, tuple | list) else [result]


# A float that an integer cannot hold becomes another one on a GPU, here as in TensorFlow.
CONVERSIONS = {"Cast", "Bitcast"}


PREFERRED = ("float32", "int64", "complex64", None, "int32")


def gpu_cases() -> list[Case]:
    """The cases of the ops that GPUs have."""
    return [case for case in cases() if case.opdef.devices is None or "GPU" in case.opdef.devices]


def one_each() -> list[Case]:
    """Of each op the case that says most."""
    by_op: dict[str, list[Case]] = {}
    for case in gpu_cases():
        by_op.setdefault(case.op_type, []).append(case)
    return [
        next((case for name in PREFERRED for case in found if case.dtype_name == name), found[0])
        for found in by_op.values()
    ]


def compare(case: Case, cpu: Any, gpu: Any, sample: Sample, number: int) -> int | None:
    """Compare one sample on both devices; how often the kernel waited, None where there is nothing to run."""
    node = node_of(case, sample)
    if node is None or string in (*node.input_dtypes, *node.output_dtypes):
        return None
    arrays = flat(sample)
    memory = node.opdef.memory_of(node)
    assert len(memory.inputs) == len(arrays), f"{case}: `memory` covers {len(memory.inputs)} inputs"
    wanted = run_node(cpu, node, arrays)
    waits = 0
    # What may be in either memory is tried in both.
    for side in (HOST, DEVICE) if ANY in memory.inputs else (DEVICE,):
        places = [side if where == ANY else where for where in memory.inputs]
        inputs = [a if where == HOST else gpu.put(a) for a, where in zip(arrays, places, strict=True)]
        before = gpu.statistics().synchronizations
        outputs = run_node(gpu, node, inputs)
        waits = max(waits, gpu.statistics().synchronizations - before)
        assert len(outputs) == len(wanted)
        for slot, (found, value, where) in enumerate(zip(outputs, wanted, memory.outputs, strict=True)):
            on_device = isinstance(found, gpu.backend.array_type)
            assert on_device == (where == DEVICE or (where == ANY and side == DEVICE)), (
                f"{case} #{number}: output {slot} is {'not ' if not on_device else ''}on the device"
            )
            host = np.asarray(gpu.get(found))
            assert host.dtype == np.asarray(value).dtype, f"{case} #{number}: output {slot} is {host.dtype}"
            try:
                assert_close(host, value, node.output_dtypes[slot], sample)
            except AssertionError as error:
                error.add_note(f"{case} #{number} {sample}, output {slot}")
                raise
    return waits


def compare_case(case: Case, cpu: Any, gpu: Any) -> int:
    """Compare all samples of a case on both devices; how often, at most, a kernel waited."""
    waits = 0
    for number, sample in enumerate(case.samples()):
        if case.op_type in CONVERSIONS and "special" in sample.note:
            continue
        waits = max(waits, compare(case, cpu, gpu, sample, number) or 0)
    gpu.synchronize()
    return waits
