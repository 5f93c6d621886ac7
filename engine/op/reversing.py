"""Ops that turn axes around: ReverseV2, Reverse, ReverseSequence, Roll."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.op.kernels import ints, shape_text
from engine.op.registry import HOST, op, raw
from engine.op.samples import Sample, random_array
from engine.op.shapes import unchanged
from engine.types import errors
from engine.types.dtypes import DType

__all__ = ["reverse", "reverse_sequence", "reverse_v2", "roll"]

_MOVABLE = (
    "{uint8, int8, uint16, int16, int32, uint32, int64, uint64, bool, bfloat16, float16, float32, float64, complex64, "
    "complex128, string}"
)


def _reverse_v2(k: Any, x: Any, axis: Any) -> Any:
    axes = ints(axis)
    reversed_axes = set()
    for given in axes:
        if not -x.ndim <= given < x.ndim:
            raise errors.InvalidArgumentError(
                None, None, f"axis {given} has to be in the range [{-x.ndim}, {x.ndim})"
            )
        if given % x.ndim in reversed_axes:
            raise errors.InvalidArgumentError(None, None, f"axis {given % x.ndim} specified more than once.")
        reversed_axes.add(given % x.ndim)
    return x[(*(slice(None, None, -1 if i in reversed_axes else None) for i in range(x.ndim)), ...)]


def _reversals(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (dims, axes) in enumerate(
        (((2, 3), (0,)), ((2, 3), (1, 0)), ((4,), (-1,)), ((), ()), ((0, 2), (0,)), ((2, 3), ()))
    ):
        yield Sample(random_array(rng, dtype, dims), np.array(axes, (np.int32, np.int64)[i % 2]))


def _backwards(x: Any, axes: Any) -> Any:
    for axis in axes:
        x = np.take(x, list(range(x.shape[int(axis)]))[::-1], axis=int(axis))
    return x


reverse_v2_op = op(
    f"ReverseV2(tensor: T, axis: Tidx; Tidx: index = int32, T: {_MOVABLE}) -> output: T",
    kernel=_reverse_v2,
    shape=unchanged,
    grad=lambda node, g: (raw.ReverseV2(g, node.inputs[1]), None),
    samples=_reversals,
    reference=lambda x, axes, **_: _backwards(x, axes),
    memory={"axis": HOST},
)


def _reverse_flags(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for dims, flags in (((2, 3), (True, False)), ((2, 3), (True, True)), ((), ()), ((0,), (True,))):
        yield Sample(random_array(rng, dtype, dims), np.array(flags, np.bool_))


reverse_op = op(
    f"Reverse(tensor: T, dims: bool; T: {_MOVABLE}) -> output: T",
    kernel=lambda k, x, dims: x[(*(slice(None, None, -1 if flag else None) for flag in dims.tolist()), ...)],
    shape=unchanged,
    grad=lambda node, g: (raw.Reverse(g, node.inputs[1]), None),
    samples=_reverse_flags,
    reference=lambda x, flags, **_: _backwards(x, np.flatnonzero(flags)),
    memory={"dims": HOST},
)


def _reverse_sequence(k: Any, x: Any, lengths: Any) -> Any:
    seq, batch = k.attrs["seq_dim"], k.attrs["batch_dim"]
    if lengths.ndim != 1 or lengths.shape[0] != x.shape[batch]:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Length of seq_lengths != input.dims({batch}), ({shape_text(lengths.shape)} vs. {x.shape[batch]})",
        )
    steps = x.shape[seq]
    if lengths.size and not bool(((lengths >= 0) & (lengths <= steps)).all()):
        bad = next(n for n in ints(lengths) if not 0 <= n <= steps)
        raise errors.InvalidArgumentError(
            None, None, f"seq_lengths must be in [0, {steps}], but one is {bad}"
        )
    step = np.arange(steps)[None, :]
    source = k.xp.asarray(np.where(step < lengths[:, None], lengths[:, None] - 1 - step, step))
    moved = k.xp.moveaxis(x, (batch, seq), (0, 1))
    turned = moved[k.xp.arange(moved.shape[0])[:, None], source]
    return k.xp.moveaxis(turned, (0, 1), (batch, seq))


def _sequences(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for i, (dims, lengths, seq, batch) in enumerate(
        (((3, 4, 2), (4, 0, 2), 1, 0), ((5, 2), (3, 5), 0, 1), ((0, 3), (), 1, 0))
    ):
        yield Sample(
            random_array(rng, dtype, dims),
            np.array(lengths, (np.int64, np.int32)[i % 2]),
            attrs={"seq_dim": seq, "batch_dim": batch},
        )


def _reverse_sequence_reference(x: Any, lengths: Any, seq_dim: int, batch_dim: int = 0, **_: Any) -> Any:
    result = np.array(x, copy=True)
    for position in np.ndindex(*x.shape):
        length = int(lengths[position[batch_dim]])
        if position[seq_dim] < length:
            source = list(position)
            source[seq_dim] = length - 1 - position[seq_dim]
            result[position] = x[tuple(source)]
    return result


def _reverse_sequence_grad(node: Any, g: Any) -> Any:
    attrs = {name: node.attrs[name] for name in ("seq_dim", "batch_dim")}
    return raw.ReverseSequence(g, node.inputs[1], **attrs), None


reverse_sequence_op = op(
    "ReverseSequence(input: T, seq_lengths: Tlen; seq_dim: int, batch_dim: int = 0, T: type, Tlen: index = int64) -> output: T",
    kernel=_reverse_sequence,
    shape=unchanged,
    grad=_reverse_sequence_grad,
    samples=_sequences,
    reference=_reverse_sequence_reference,
    memory={"seq_lengths": HOST},
)


# Roll: what leaves at one end comes back at the other.


def _roll(k: Any, x: Any, shift: Any, axis: Any) -> Any:
    shifts, axes = ints(shift), ints(axis)
    if len(shifts) != len(axes):
        raise errors.InvalidArgumentError(
            None, None, f"shift and axis must have the same size, not {len(shifts)} and {len(axes)}"
        )
    for given in axes:
        if not -x.ndim <= given < x.ndim:
            raise errors.InvalidArgumentError(
                None, None, f"axis {given} is out of range [{-x.ndim}, {x.ndim})"
            )
    return k.xp.roll(x, shifts, axes)


def _rolls(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    cases: Sequence[tuple[tuple[int, ...], Any, Any]] = (
        ((5,), 2, 0), ((2, 3), -4, 1), ((3, 4), (1, 2), (0, 1)), ((3, 4), (1, 1), (0, 0)), ((0, 2), 1, 0),
    )  # fmt: skip
    for i, (dims, shift, axis) in enumerate(cases):
        index = (np.int32, np.int64)[i % 2]
        yield Sample(random_array(rng, dtype, dims), np.array(shift, index), np.array(axis, np.int32))


def _rolled(x: Any, shift: Any, axis: Any, **_: Any) -> Any:
    for by, along in zip(np.atleast_1d(shift).tolist(), np.atleast_1d(axis).tolist(), strict=True):
        size = x.shape[along]
        x = np.take(x, [(i - by) % size for i in range(size)], axis=along)
    return x


roll_op = op(
    "Roll(input: T, shift: Tshift, axis: Taxis; T: type, Tshift: index, Taxis: index) -> output: T",
    kernel=_roll,
    shape=unchanged,
    grad=lambda node, g: (raw.Roll(g, raw.Neg(node.inputs[1]), node.inputs[2]), None, None),
    samples=_rolls,
    reference=_rolled,
    memory={"shift": HOST, "axis": HOST},
)


# Under TensorFlow 1's names.


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Any:
    """`tensor` with the order along each axis of the int vector `axis` reversed."""
    return raw.ReverseV2(tensor, axis, name=name)


reverse_v2 = reverse


def reverse_sequence(
    input: Any,
    seq_lengths: Any,
    seq_axis: int | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
    seq_dim: int | None = None,
    batch_dim: int | None = None,
) -> Any:
    """For each i along `batch_axis`, `input` with the first `seq_lengths[i]` entries along `seq_axis` reversed.

    seq_dim and batch_dim are the old names of seq_axis and batch_axis.
    """
    seq = seq_axis if seq_axis is not None else seq_dim
    if seq is None:
        raise ValueError("tf.reverse_sequence needs 'seq_axis'")
    batch = batch_axis if batch_axis is not None else batch_dim
    return raw.ReverseSequence(input, seq_lengths, seq_dim=seq, batch_dim=batch or 0, name=name)


def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Any:
    """`input` moved by `shift` along `axis`, ints or int vectors of one length.

    What leaves at one end comes back at the other.
    """
    return raw.Roll(input, shift, axis, name=name)
