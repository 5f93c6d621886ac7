"""_Send and _Recv: the two halves of an edge between devices, as TensorFlow's partitions have them.

`engine.partition` puts them into a step's graph; the executor runs them (`engine.runtime.transfers`), since a `_Send` runs with a
dead input too, and a `_Recv` whose tensor is not there yet is parked rather than run.  Their attrs say who sends what to whom;
together with the frame and the iteration they make the key under which the tensor goes through the rendezvous.
"""

from __future__ import annotations

from typing import Any

from engine.op.registry import NotDifferentiable, op
from engine.op.samples import untested
from engine.op.shapes import UNKNOWN, no_outputs
from engine.types import errors

__all__: list[str] = []

_BY_HAND = untested("tests/partition")
_ATTRS = (
    "tensor_name: string, send_device: string, send_device_incarnation: int, recv_device: string, "
    "client_terminated: bool = False"
)


def _by_the_executor(k: Any, *inputs: Any) -> Any:
    raise errors.InternalError(None, None, f"{k.op.type} has no kernel: the executor moves its tensor")


send = op(
    f"_Send(tensor: T; T: type, {_ATTRS}) -> ",
    kernel=_by_the_executor,
    shape=no_outputs,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    flow="send",
)
recv = op(
    f"_Recv(; tensor_type: type, {_ATTRS}) -> tensor: tensor_type",
    kernel=_by_the_executor,
    shape=lambda node: UNKNOWN,
    grad=NotDifferentiable,
    samples=_BY_HAND,
    stateful=True,
    flow="recv",
)
