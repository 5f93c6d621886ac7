"""`while_loop`: loops on the primitives Enter, Merge, Switch, NextIteration and Exit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.control import composite
from engine.control.context import WhileContext, check_invariant, switch_ref_or_tensor
from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph, name_scope
from engine.graph.keys import GraphKeys
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.types import nest
from engine.types.shape import TensorShape

__all__ = ["while_loop"]


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
    maximum_iterations: Any = None,
    return_same_structure: bool = False,
) -> Any:
    """Repeat `body` while `cond` is true, when the graph runs; as TensorFlow 1's `tf.while_loop`.

    cond: from the loop variables to a scalar bool tensor.  body: from the loop variables to their next values, in the same
    structure.  loop_vars: a list or tuple of tensors, numbers or nested structures of them.  shape_invariants: for each loop
    variable a shape that it has in every iteration, where it changes.  parallel_iterations: how many iterations may be under
    way at once.  maximum_iterations: an int scalar that bounds the count.

    Both functions are called once, now.  Returns the variables' last values in the lists and tuples that `body` returned, or a
    lone tensor where there is but one (unless return_same_structure).  Raises TypeError and ValueError for arguments that do not
    fit, a predicate that is no scalar bool, a body that returns another structure or dtype, or a shape that changes without an
    invariant.
    """
    with name_scope(name, "while", loop_vars if isinstance(loop_vars, list | tuple) else []):
        if not loop_vars:
            raise ValueError("No loop variables provided")
        if not isinstance(loop_vars, list | tuple):
            raise TypeError(f"loop_vars must be a list or a tuple, not {type(loop_vars).__name__}")
        for argument, function in (("cond", cond), ("body", body)):
            if not callable(function):
                raise TypeError(f"{argument} must be callable, not {function!r}")
        if parallel_iterations < 1:
            raise TypeError(f"parallel_iterations must be a positive integer, not {parallel_iterations!r}")
        if not isinstance(parallel_iterations, int):
            raise ValueError(f"parallel_iterations must be a positive integer, not {parallel_iterations!r}")
        if maximum_iterations is not None:
            counted = _counted(cond, body, loop_vars, maximum_iterations)
            limit, cond, body, loop_vars = counted
            if shape_invariants is not None:
                shape_invariants = (TensorShape(()), shape_invariants)
        else:
            limit = None
        if shape_invariants is not None:
            shape_invariants = _match_invariants(loop_vars, shape_invariants)
        context = WhileContext(parallel_iterations, back_prop, swap_memory, limit)
        if context.outer is None:
            get_default_graph().add_to_collection(GraphKeys.WHILE_CONTEXT, context)
        result = _build(context, cond, body, loop_vars, shape_invariants)
        if limit is not None:
            result = result[1]
            alone = len(loop_vars[1]) == 1
        else:
            alone = len(context.loop_exits) == 1
        return result[0] if alone and not return_same_structure else result


def _counted(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum: Any
) -> tuple[Any, ...]:
    """The same loop with a counter that ends it after `maximum` iterations."""
    limit = convert_to_tensor(maximum, name="maximum_iterations")
    if limit._shape.ndims != 0:
        raise ValueError(f"maximum_iterations must be a scalar, not of shape {limit._shape}")
    counter = convert_to_tensor(0, limit.dtype, name="iteration_counter")

    def counted_cond(i: Any, variables: Any) -> Any:
        return raw.LogicalAnd(raw.Less(i, limit), cond(*variables))

    def counted_body(i: Any, variables: Any) -> Any:
        count = i + 1
        following = body(*variables)
        if not isinstance(following, list | tuple):
            following = (
                type(variables)([following])
                if not hasattr(variables, "_fields")
                else type(variables)(following)
            )
        return count, type(variables)(following) if not hasattr(variables, "_fields") else following

    return limit, counted_cond, counted_body, (counter, loop_vars)


def _match_invariants(loop_vars: Any, invariants: Any) -> list[TensorShape]:
    """A shape for each tensor of the loop variables.  Raises ValueError if the structures differ."""
    found: list[TensorShape] = []

    def match(variable: Any, invariant: Any) -> None:
        if isinstance(variable, dict):
            if not isinstance(invariant, dict) or set(variable) != set(invariant):
                raise ValueError("shape_invariants must have the structure of loop_vars")
            for key in sorted(variable):
                match(variable[key], invariant[key])
        elif nest.is_nested(variable):
            if not isinstance(invariant, list | tuple) or len(invariant) != len(variable):
                raise ValueError("shape_invariants must have the structure of loop_vars")
            for each, shape in zip(variable, invariant, strict=True):
                match(each, shape)
        else:
            found.extend(composite.invariants_of(variable, invariant))

    match(list(loop_vars), list(invariants) if isinstance(invariants, list | tuple) else invariants)
    return found


def _build(
    context: WhileContext,
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Sequence[Any],
    invariants: list[TensorShape] | None,
) -> Any:
    structure = loop_vars
    flat = [convert_to_tensor(each) for each in composite.flatten(structure)]
    if invariants is None:
        invariants = composite.own_invariants(structure, flat)
    with context.entered():
        enters = context.enter_loop_vars(flat, invariants)
        merges = [_merge(enter) for enter in enters]
        context.pivot_for_pred = merges[0]
        predicate = convert_to_tensor(cond(*composite.pack(structure, merges)))
        _check_predicate(predicate)
        context.pivot = raw.LoopCond(predicate, name="LoopCond")
        switches = [switch_ref_or_tensor(merge, context.pivot) for merge in merges]
        inside = [_identity(switch[1]) for switch in switches]
        context.pivot_for_body = inside[0]
        result = body(*composite.pack(structure, inside))
        result, following = _flat_result(structure, result, merges)
        for merge, value in zip(merges, following, strict=True):
            nxt = (
                raw.RefNextIteration(value)
                if value.dtype._is_ref_dtype
                else raw.NextIteration(value, name="NextIteration")
            )
            check_invariant(merge, nxt)
            merge.op._update_input(1, nxt)
        exits = [
            raw.RefExit(s[0]) if s[0].dtype._is_ref_dtype else raw.Exit(s[0], name="Exit") for s in switches
        ]
        context.loop_exits = exits
        context.leave(exits)
    # In the lists and tuples that the body returned, which need not be those of the loop variables.
    return nest.pack_sequence_as(result, nest.flatten(composite.pack(structure, exits)))


def _merge(enter: Tensor) -> Tensor:
    """The Merge at the head of the loop; its second input is replaced by the back edge later."""
    make = raw.RefMerge if enter.dtype._is_ref_dtype else raw.Merge
    merge: Tensor = make([enter, enter], name="Merge")[0]
    return merge


def _identity(tensor: Tensor) -> Tensor:
    identity: Tensor = raw.RefIdentity(tensor) if tensor.dtype._is_ref_dtype else raw.Identity(tensor)
    return identity


def _check_predicate(predicate: Tensor) -> None:
    if predicate._shape.ndims not in (None, 0):
        raise ValueError(
            f"The condition of a while_loop must be a scalar, and '{predicate.name}' has shape {predicate._shape}"
        )
    if not predicate.dtype.base_dtype.is_bool:
        raise TypeError(
            f"The condition of a while_loop must be bool, and '{predicate.name}' has dtype {predicate.dtype.name}"
        )


def _flat_result(structure: Any, result: Any, merges: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
    """The body's results, as a structure of all loop variables and as tensors, checked against the loop variables."""
    if not nest.is_nested(result) or (
        len(structure) == 1 and nest.is_nested(structure[0]) and not _same(structure, result)
    ):
        result = [result]
    try:
        nest.assert_same_structure(list(structure), list(result))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The body of a while_loop must return the structure of loop_vars: {error}"
        ) from None
    other = composite.differently(list(structure), list(result))
    if other is not None:
        raise TypeError(
            f"A loop variable enters the loop as {other[0]!r} and is {other[1]!r} after one iteration; it must stay what it is"
        )
    found = []
    for i, (value, merge) in enumerate(zip(composite.flatten(list(result)), merges, strict=True)):
        if value is None:
            raise ValueError(
                f"None values not supported: the body of the while_loop returned None for loop variable {i}"
            )
        tensor = convert_to_tensor(value, None if isinstance(value, Tensor) else merge.dtype.base_dtype)
        if tensor.dtype.base_dtype is not merge.dtype.base_dtype:
            raise TypeError(
                f"Loop variable {i} enters the loop with dtype {merge.dtype.base_dtype.name} and has dtype {tensor.dtype.name} "
                f"('{tensor.name}') after one iteration; it must keep its dtype"
            )
        found.append(tensor)
    return result, found


def _same(structure: Any, result: Any) -> bool:
    try:
        nest.assert_same_structure(list(structure), list(result))
    except (ValueError, TypeError):
        return False
    return True
