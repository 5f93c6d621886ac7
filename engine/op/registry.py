"""The registry: every op the engine knows, made by one block each.

A block is one call of `op`: signature, kernel, shape rule, gradient, samples.  The kernel's body is written once against an
array namespace `k.xp` (NumPy, or CuPy on a GPU); a kernel for one kind of device, or for some dtypes on it, is registered
beside the block with `register_kernel`.
"""

from __future__ import annotations

import inspect
import keyword
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from engine.op.signature import Signature, parse
from engine.types.dtypes import DType

Kernel = Callable[..., Any]
ShapeRule = Callable[[Any], Any]


class _NotDifferentiable:
    """The gradient of an op through which none flows (as opposed to an op whose gradient nobody has written)."""

    def __repr__(self) -> str:
        return "NotDifferentiable"


NotDifferentiable = _NotDifferentiable()


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
    ) -> None:
        self.name = signature.name
        self.signature = signature
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
        """The kernel for `device_type` ("CPU", "GPU") and these input and output dtypes: a specific one, or the shared body."""
        present = set(dtypes)
        for kind, accepted, kernel in self.kernels:
            if kind == device_type and (accepted is None or present <= accepted):
                return kernel
        return self.kernel


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


_ops: dict[str, OpDef] = {}


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

    Raises ValueError for a malformed signature, a second op of that name, or no samples.
    """
    parsed = parse(signature)
    if parsed.name in _ops:
        raise ValueError(f"op '{parsed.name}' is registered already")
    if samples is None:
        raise ValueError(f"op '{parsed.name}' has no samples: an op that is not tested is not registered")
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


class _RawOps:
    """Every op by its type name: ``raw.MatMul(a, b)``.  Looked up at the call, so blocks may refer to each other freely."""

    def __getattr__(self, name: str) -> OpDef:
        try:
            return _ops[name]
        except KeyError:
            raise AttributeError(f"there is no op of type '{name}'") from None

    def __dir__(self) -> list[str]:
        return sorted(_ops)


raw = _RawOps()
