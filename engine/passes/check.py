"""The graph checker: what every stage must be, whatever pass made it.

`problems` lists what is wrong with a stage, in words; `check` raises if anything is.  Each rule is a function of a stage that
yields sentences, and `RULES` is the table of them.  The tests run them around every pass (`engine.passes.pipeline.checker`).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from engine.op.build import output_dtypes
from engine.passes.stage import Stage, StageNode
from engine.passes.views import view
from engine.types import errors

Rule = Callable[[Stage], Iterator[str]]
_sound: weakref.WeakSet[Stage] = weakref.WeakSet()  # stages in which `check` found nothing wrong


def check(stage: Stage) -> None:
    """Raise InternalError, naming the stage and the first problems, if `stage` breaks a rule."""
    if stage in _sound:
        return
    found = problems(stage)
    if found:
        more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
        raise errors.InternalError(
            None, None, f"Stage '{stage.name}' is broken{more}: " + "; ".join(found[:5])
        )
    _sound.add(stage)


def problems(stage: Stage) -> list[str]:
    """Everything that is wrong with `stage`, a sentence each; where edges lead nowhere, only that."""
    found = list(edges(stage))
    if found:
        return found
    found = [problem for rule in RULES for problem in rule(stage)]
    if found and stage.before is not None and any(frames(stage.before)):
        return [
            problem for rule in RULES if rule is not frames for problem in rule(stage)
        ]  # the user's mistake, not the pass's
    return found


def edges(stage: Stage) -> Iterator[str]:
    """Names fit, every edge leads to an output that there is, control inputs are others and each there once."""
    for name, node in stage.nodes.items():
        if node.name != name:
            yield f"the node '{node.name}' stands under the name '{name}'"
        for slot, (source, output) in enumerate(node.inputs):
            producer = stage.nodes.get(source)
            if producer is None:
                yield f"input {slot} of '{name}' is '{source}:{output}', and there is no node '{source}'"
            elif not 0 <= output < len(producer.output_dtypes):
                yield f"input {slot} of '{name}' is '{source}:{output}', and '{source}' has {len(producer.output_dtypes)} outputs"
        for source in node.control_inputs:
            if source not in stage.nodes:
                yield f"'{name}' waits for '{source}', which is not there"
        if name in node.control_inputs:
            yield f"'{name}' waits for itself"
        if len(set(node.control_inputs)) != len(node.control_inputs):
            yield f"'{name}' waits for the same node twice"


def dtypes(stage: Stage) -> Iterator[str]:
    """Inputs and outputs are as many as the signature says and of its dtypes; references go only where it takes them."""
    before = {} if stage.before is None or stage.before not in _sound else stage.before.nodes
    for name, node in stage.nodes.items():
        if before.get(name) is node and all(
            before.get(source) is stage.nodes[source] for source, _ in node.inputs
        ):
            continue  # as it was when it was found right
        takes_ref = _takes_ref(node)
        if len(node.inputs) != len(takes_ref):
            yield f"'{name}' ({node.type}) has {len(node.inputs)} inputs, and its signature says {len(takes_ref)}"
            continue
        if len(node.input_dtypes) != len(node.inputs):
            yield f"'{name}' has {len(node.inputs)} inputs and dtypes for {len(node.input_dtypes)}"
            continue
        for slot, (source, output) in enumerate(node.inputs):
            given, taken = stage.nodes[source].output_dtypes[output], node.input_dtypes[slot]
            if given.base_dtype is not taken.base_dtype:
                yield f"input {slot} of '{name}' is {taken.name}, and '{source}:{output}' is {given.name}"
            if takes_ref[slot] and not given._is_ref_dtype:
                yield f"input {slot} of '{name}' must be a reference to a variable, and '{source}:{output}' is a value"
            if takes_ref[slot] != taken._is_ref_dtype:
                yield f"input {slot} of '{name}' is {taken.name}, against its signature"
        if tuple(output_dtypes(node.opdef, dict(node.attrs))) != node.output_dtypes:
            yield f"the output dtypes of '{name}' ({node.type}) are not those that its attrs say"
        if len(node.output_shapes) != len(node.output_dtypes):
            yield f"'{name}' has {len(node.output_dtypes)} outputs and shapes for {len(node.output_shapes)}"


def _takes_ref(node: StageNode) -> list[bool]:
    found: list[bool] = []
    for spec in node.opdef.signature.inputs:
        if spec.type_list_attr is not None:
            found += [spec.is_ref] * len(node.attrs[spec.type_list_attr])
        else:
            found += [spec.is_ref] * (1 if spec.number_attr is None else node.attrs[spec.number_attr])
    return found


def shapes(stage: Stage) -> Iterator[str]:
    """A node that this stage made has shapes that its op's rule gives for its inputs; one it changed, those it had."""
    for name, node in stage.nodes.items():
        if not stage.made(name):
            continue
        before = stage.before.nodes.get(name) if stage.before is not None else None
        if before is not None and len(before.output_shapes) == len(node.output_shapes):
            for i, (old, new) in enumerate(zip(before.output_shapes, node.output_shapes, strict=True)):
                if not old.is_compatible_with(new):
                    yield f"output {i} of '{name}' had shape {old}, and has {new}"
        found, error = _by_rule(stage, node)
        if error is not None:
            if not _failed_before(stage, name):
                given = ", ".join(
                    str(stage.nodes[source].output_shapes[slot]) for source, slot in node.inputs
                )
                yield f"'{name}' ({node.type}) cannot take inputs of shapes {given}: {error}"
            continue  # else the user's program is at fault, and will hear of it when it runs
        for i, shape in enumerate(found if isinstance(found, list | tuple) else (found,)):
            if i < len(node.output_shapes) and not shape.is_compatible_with(node.output_shapes[i]):
                yield f"output {i} of '{name}' has shape {node.output_shapes[i]}, and {node.type} gives {shape}"


def _by_rule(stage: Stage, node: StageNode) -> tuple[Any, Exception | None]:
    """The shapes that the op's rule gives, or what it raises."""
    try:
        return (() if node.opdef.shape is None else node.opdef.shape(view(node, stage.nodes))), None
    except Exception as error:  # of a node that is spoiled, a rule may raise anything
        return (), error


def _failed_before(stage: Stage, name: str) -> bool:
    """Whether the rule has raised for what the node came from, too."""
    before = stage.before
    if before is None:
        return False
    sources = [source for source in stage.sources(name) if source in before.nodes]
    return any(_by_rule(before, before.nodes[source])[1] is not None for source in sources)


def frames(stage: Stage) -> Iterator[str]:
    """No cycle but through a NextIteration; all that a node reads or waits for is in one frame."""
    nodes = stage.nodes
    awaited: dict[
        str, dict[str, None]
    ] = {}  # the names that a node waits for: all but the NextIterations that come back to it
    users: dict[str, list[str]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        sources = dict.fromkeys([source for source, _ in node.inputs])
        if node.opdef.flow == "merge":
            sources = {source: None for source in sources if not _closes_loop(stage, source, node)}
        sources.update(dict.fromkeys(node.control_inputs))
        awaited[name] = sources
        for source in sources:
            users[source].append(name)
    waiting = {name: len(sources) for name, sources in awaited.items()}
    ready = deque(name for name, count in waiting.items() if not count)
    found: dict[str, tuple[str, ...]] = {}
    left_in: dict[str, tuple[str, ...]] = {}  # the frame in which a node's outputs are
    while ready:
        name = ready.popleft()
        node = nodes[name]
        sources = awaited[name]
        frame: tuple[str, ...] = left_in[next(iter(sources))] if sources else ()
        if any(left_in[source] != frame for source in sources):
            seen = ", ".join(f"'{source}' in {'/'.join(left_in[source]) or 'the root'}" for source in sources)
            yield f"'{name}' has inputs from different frames: {seen}"
        found[name] = frame
        flow = node.opdef.flow
        if flow == "exit" and not frame:
            yield f"the Exit '{name}' is in no loop"
        left_in[name] = _leaves_in(node, frame) if flow in ("enter", "exit") else frame
        for user in users[name]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    stuck = [name for name in nodes if name not in found]
    if stuck:
        yield f"a cycle that no NextIteration closes goes through '{_on_cycle(stage, stuck)}'"
        return
    for name, node in nodes.items():
        if node.opdef.flow == "merge":
            for source, _ in node.inputs:
                if _closes_loop(stage, source, node) and found[source] != found[name]:
                    yield f"the NextIteration '{source}' is in another frame than '{name}', to which it leads"


def _closes_loop(stage: Stage, source: str, node: StageNode) -> bool:
    return node.opdef.flow == "merge" and stage.nodes[source].opdef.flow == "next_iteration"


def _leaves_in(node: StageNode, frame: tuple[str, ...]) -> tuple[str, ...]:
    if node.opdef.flow == "enter":
        return (*frame, node.attrs["frame_name"])
    return frame[:-1] if node.opdef.flow == "exit" else frame


def _on_cycle(stage: Stage, stuck: list[str]) -> str:
    inside, seen, name = set(stuck), set(), stuck[0]
    while name not in seen:
        seen.add(name)
        node = stage.nodes[name]
        name = next(
            each for each in (*(source for source, _ in node.inputs), *node.control_inputs) if each in inside
        )
    return name


def lineage(stage: Stage) -> Iterator[str]:
    """Every node came from nodes of the stage before, every change has a reason, and every node before left a trace."""
    before = stage.before
    if before is None:
        return
    for name, node in stage.nodes.items():
        if not stage.made(name):
            if before.nodes.get(name) is not node:
                yield f"'{name}' was changed, and its lineage does not say so"
            continue
        if not node.lineage.sources:
            yield f"'{name}' comes from nowhere"
        for source in node.lineage.sources:
            if source not in before.nodes:
                yield f"'{name}' is said to come from '{source}', which was not in '{before.name}'"
        if (
            not node.lineage.reason
            and before.nodes.get(name) is not None
            and _differs(before.nodes[name], node)
        ):
            yield f"'{name}' was changed without a reason"
    for name, reason in stage.removed.items():
        if name in stage.nodes:
            yield f"'{name}' is said to be removed, and is there"
        if name not in before.nodes:
            yield f"'{name}' is said to be removed, and was not there"
        if not reason:
            yield f"'{name}' was removed without a reason"
    for name in before.nodes:
        if name not in stage.removed and name not in stage.successors:
            yield f"'{name}' of '{before.name}' is gone without a reason"


def _differs(a: StageNode, b: StageNode) -> bool:
    return (a.opdef, a.inputs, a.control_inputs) != (b.opdef, b.inputs, b.control_inputs)


def boundary(stage: Stage) -> Iterator[str]:
    """Feeds, fetches and targets are those of the stage before, and there is a node for each."""
    for what, type in ((stage.feeds, "_Arg"), (stage.fetches, "_Retval")):
        indices = sorted(node.attrs["index"] for node in stage if node.type == type)
        if sorted(set(indices)) != list(range(len(what))):
            yield f"{len(what)} tensors cross the edge of the program, and the {type} nodes are those of {indices}"
    for target in stage.targets:
        if target not in stage.nodes:
            yield f"the target '{target}' is not there"
    before = stage.before
    if before is None or not (before.feeds or before.fetches or before.targets):
        return
    if (stage.feeds, stage.fetches, stage.targets) != (before.feeds, before.fetches, before.targets):
        yield "feeds, fetches or targets have changed"
    for name, node in before.nodes.items():
        if node.type in ("_Arg", "_Retval") and name not in stage.nodes:
            yield f"'{name}' ({node.type}) is gone"


RULES: tuple[Rule, ...] = (dtypes, shapes, frames, lineage, boundary)
