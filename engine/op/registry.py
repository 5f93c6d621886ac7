"""The registry: every op the engine knows, made by one block each.

A block is one call of `op`: signature, kernel, shape rule, gradient, samples.  The kernel's body is written once against an
array namespace `k.xp` (NumPy, or CuPy on a GPU); a kernel for one kind of device, or for some dtypes on it, is registered
beside the block with `register_kernel`.

On a device with memory of its own an op's inputs and outputs are there, unless the block says otherwise (`memory`): sizes, axes
and the like are wanted in the host's memory, and what is only handed on may be in either.
"""

from __future__ import annotations

import inspect
import keyword
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from engine.op.signature import ArgSpec, Signature, parse
from engine.types.dtypes import DType, int32, resource, string, variant

Kernel = Callable[..., Any]
ShapeRule = Callable[[Any], Any]


class _NotDifferentiable:
    """The gradient of an op through which none flows (as opposed to an op whose gradient nobody has written)."""

    def __repr__(self) -> str:
        return "NotDifferentiable"


NotDifferentiable = _NotDifferentiable()

# Where an input is wanted, or an output is made, on a device with memory of its own.
DEVICE = "device"
HOST = "host"
ANY = "any"  # in either: an input is taken as it is, an output is where the kernel has it

_HOST_ONLY = frozenset({string, resource, variant})  # strings and handles


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a node's inputs and outputs are, slot by slot: DEVICE, HOST or ANY.  `on_host`: its kernel is the host's."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    on_host: bool = False


class OpDef:
    """One op type: its signature and the functions that give it meaning.  Call it to add such a node to the default graph."""

    def __init__(
        self,
        signature: Signature,
        *,
        kernel: Kernel | None,
        ufunc: str | None,
        shape: ShapeRule | None,
        grad: Any,
        samples: Any,
        reference: Callable[..., Any] | None,
        stateful: bool,
        flow: str,
        allows_uninitialized: bool,
        devices: tuple[str, ...] | None,
        memory: Mapping[str, str] | str,
        int32_on_host: bool,
    ) -> None:
        self.name = signature.name
        self.signature = signature
        self.default_name = signature.name.lstrip("_")  # of a node for which nobody gives a name
        self.ref_inputs = tuple(i for i, arg in enumerate(signature.inputs) if arg.is_ref and not arg.is_list)
        self.ufunc = ufunc
        self.kernel = kernel if ufunc is None else _ufunc_kernel(ufunc)
        self.kernels: list[tuple[str, frozenset[DType] | None, Kernel]] = []
        self.shape = shape
        self.grad = grad
        self.samples = samples
        self.reference = reference
        self.stateful = stateful
        self.flow = flow
        self.allows_uninitialized = allows_uninitialized
        self.devices = devices
        self.memory = memory
        self.int32_on_host = int32_on_host

    def __repr__(self) -> str:
        return f"<op {self.signature.text}>"

    def __call__(self, *inputs: Any, name: str | None = None, **keywords: Any) -> Any:
        """Add a node of this type to the default graph.

        Inputs go by position or by name, attrs by name; `name` may follow the inputs by position, as it often does in programs
        for TensorFlow 1.  Returns the output Tensor, a list of Tensors for a list output, a
        named tuple for several outputs, or the Operation if there are none.  Raises TypeError or ValueError, naming the
        input, for what does not fit the signature.
        """
        if len(inputs) > len(self.signature.inputs) and name is None and isinstance(inputs[-1], str | None):
            inputs, name = inputs[:-1], inputs[-1]
        return _builder(self, inputs, keywords, name)

    @cached_property
    def result_type(self) -> Any:
        """The named tuple in which several outputs are returned."""
        return namedtuple(self.name, [arg.name for arg in self.signature.outputs])  # noqa: PYI024 (made at run time)

    @cached_property
    def __signature__(self) -> inspect.Signature:
        parameter = inspect.Parameter
        found = [
            parameter(_identifier(arg.name), parameter.POSITIONAL_OR_KEYWORD) for arg in self.signature.inputs
        ]
        for attr in self.signature.attrs.values():
            if attr.name not in self.signature.inferred:
                default = attr.default if attr.has_default else parameter.empty
                found.append(parameter(_identifier(attr.name), parameter.KEYWORD_ONLY, default=default))
        found.append(parameter("name", parameter.KEYWORD_ONLY, default=None))
        return inspect.Signature(found)

    def kernel_for(self, device_type: str, dtypes: Iterable[DType]) -> Kernel | None:
        """The kernel for `device_type` ("CPU", "GPU") and these input and output dtypes: a specific one, or the shared body.

        None if there is neither: the shared body needs the host (`devices`), as whatever works on strings does.
        """
        present = set(dtypes)
        own = self.own_kernel_for(device_type, present)
        if own is not None or device_type == "CPU":
            return own or self.kernel
        if self.devices is not None and device_type not in self.devices:
            return None
        return None if any(dtype.base_dtype is string for dtype in present) else self.kernel

    def own_kernel_for(self, device_type: str, dtypes: Iterable[DType]) -> Kernel | None:
        """The kernel that was registered for `device_type` and these dtypes (`register_kernel`), or None."""
        present = set(dtypes)
        for kind, accepted, kernel in self.kernels:
            if kind == device_type and (accepted is None or present <= accepted):
                return kernel
        return None

    def memory_of(self, node: Any) -> Memory:
        """Where the inputs and outputs of `node`, a node of this type, are on a device with memory of its own."""
        attrs = node.attrs
        if self.memory == HOST or (
            self.int32_on_host and any(attrs.get(name) is int32 for name in ("T", "dtype"))
        ):
            return Memory((HOST,) * len(node.input_dtypes), (HOST,) * len(node.output_dtypes), on_host=True)
        return Memory(
            self._slots(self.signature.inputs, attrs, node.input_dtypes),
            self._slots(self.signature.outputs, attrs, node.output_dtypes),
        )

    def _slots(
        self, args: Sequence[ArgSpec], attrs: Mapping[str, Any], dtypes: Sequence[DType]
    ) -> tuple[str, ...]:
        memory = self.memory
        found: list[str] = []
        for arg in args:
            where = memory if isinstance(memory, str) else memory.get(arg.name, DEVICE)
            count = 1
            if arg.number_attr is not None:
                count = attrs[arg.number_attr]
            elif arg.type_list_attr is not None:
                count = len(attrs[arg.type_list_attr])
            found.extend([where] * count)
        # Strings and handles are the host's whatever the block says.
        return tuple(
            HOST if d.base_dtype in _HOST_ONLY else where for where, d in zip(found, dtypes, strict=True)
        )


def _identifier(name: str) -> str:
    return name + "_" if keyword.iskeyword(name) else name


def _ufunc_kernel(name: str) -> Kernel:
    def kernel(k: Any, *inputs: Any) -> Any:
        return getattr(k.xp, name)(*inputs)

    return kernel


Builder = Callable[["OpDef", Sequence[Any], dict[str, Any], "str | None"], Any]


def _not_imported(opdef: OpDef, inputs: Sequence[Any], keywords: dict[str, Any], name: str | None) -> Any:
    raise RuntimeError("engine.op.build has not been imported yet")


_builder: Builder = _not_imported


def set_builder(builder: Builder) -> None:
    """Install what adds nodes to graphs: the registry itself lies below the graph and cannot import it."""
    global _builder
    _builder = builder


class _RawOps:
    """Every op by its type name: ``raw.MatMul(a, b)``.  Looked up at the call, so blocks may refer to each other freely."""

    def __getattr__(self, name: str) -> OpDef:
        raise AttributeError(f"there is no op of type '{name}'")

    def __dir__(self) -> list[str]:
        return sorted(_ops)


raw = _RawOps()
_ops: dict[str, OpDef] = vars(raw)


def op(
    signature: str,
    *,
    kernel: Kernel | None = None,
    ufunc: str | None = None,
    shape: ShapeRule | None = None,
    grad: Any = None,
    samples: Any = None,
    reference: Callable[..., Any] | None = None,
    stateful: bool = False,
    flow: str = "",
    allows_uninitialized: bool = False,
    devices: Sequence[str] | None = None,
    memory: Mapping[str, str] | str = MappingProxyType({}),
    int32_on_host: bool = False,
) -> OpDef:
    """Register an op and return its definition.

    signature: see `engine.op.signature`.
    kernel: ``kernel(k, *inputs)`` returns the output array, or a tuple if there is not exactly one; or `ufunc`, the name of
        the array namespace's elementwise function that does it, so that a plan can call that directly.
    shape: ``shape(op)`` returns the output's TensorShape, or a list of them; None: unknown.
    grad: ``grad(op, *output_gradients)`` returns one Tensor, IndexedSlices or None for each input; `NotDifferentiable` if
        no gradient flows; None if there is no gradient function.
    samples: what the generated tests feed it; see `engine.op.samples`.
    reference: the result in NumPy float64, written differently from the kernel.
    stateful: it touches resources, randomness or the outside: never folded, never merged, run once each time.
    flow: how the executor treats it ('switch', 'merge', 'enter', 'exit', 'next_iteration', 'loop_cond'; '' is ordinary).
    allows_uninitialized: its reference inputs may be variables without a value yet.
    devices: the types of device that the kernel's body runs on; None: on all, save for dtypes that only the host has.
    memory: on a device with memory of its own, where inputs and outputs are, by name: DEVICE, HOST or ANY; DEVICE where nothing
        is said.  One word instead holds for all of them; with HOST the kernel then computes there.  As TensorFlow's HostMemory.
    int32_on_host: with int32 as its dtype `T` it computes on the host even when it is placed elsewhere, as TensorFlow has it for
        the arithmetic on shapes.

    Raises ValueError for a malformed signature, a second op of that name, no samples, or `memory` for an argument that is none.
    """
    parsed = parse(signature)
    if parsed.name in _ops:
        raise ValueError(f"op '{parsed.name}' is registered already")
    if samples is None:
        raise ValueError(f"op '{parsed.name}' has no samples: an op that is not tested is not registered")
    if not isinstance(memory, str):
        unknown = set(memory) - {arg.name for arg in (*parsed.inputs, *parsed.outputs)}
        if unknown:
            raise ValueError(f"op '{parsed.name}' has no input or output named {sorted(unknown)}")
    definition = OpDef(
        parsed,
        kernel=kernel,
        ufunc=ufunc,
        shape=shape,
        grad=grad,
        samples=samples,
        reference=reference,
        stateful=stateful,
        flow=flow,
        allows_uninitialized=allows_uninitialized,
        devices=None if devices is None else tuple(devices),
        memory=memory,
        int32_on_host=int32_on_host,
    )
    _ops[parsed.name] = definition
    return definition


def register_kernel(
    op_type: str, device: str, dtypes: Iterable[DType] | None = None
) -> Callable[[Kernel], Kernel]:
    """Decorator: a kernel of `op_type` for one kind of device, and only for `dtypes` if given."""

    def register(kernel: Kernel) -> Kernel:
        _ops[op_type].kernels.append((device, None if dtypes is None else frozenset(dtypes), kernel))
        return kernel

    return register


def lookup(op_type: str) -> OpDef | None:
    """The op of that type, or None."""
    return _ops.get(op_type)


def all_ops() -> Iterator[OpDef]:
    """Every registered op, by name."""
    return iter(sorted(_ops.values(), key=lambda definition: definition.name))
