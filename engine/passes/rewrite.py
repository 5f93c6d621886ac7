"""Draft: a stage that a pass is changing.

A pass never touches a `Stage`.  It gets a `Draft`, edits it (`add`, `replace`, `redirect`, `merge`, `remove`), and `finish` makes
the next stage of it, in which every node knows the nodes that it came from, and of every node that is gone there is a reason.
Each edit leaves a graph that means the same if the graph before it did: that is the pass's business; here, edges are kept
whole, names unique, and what waits for a node that goes waits for what that node waited for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from engine.op.build import output_dtypes
from engine.op.registry import OpDef, lookup
from engine.op.shapes import UNKNOWN
from engine.passes.stage import Lineage, Stage, StageNode
from engine.passes.views import infer_shapes

if TYPE_CHECKING:
    from engine.types.dtypes import DType
    from engine.types.shape import TensorShape

Edge = tuple[str, int]
BOUNDARY = frozenset({"_Arg", "_Retval"})


class Draft:
    """The nodes of a stage under change, on the way to the stage called `name`.

    Iterate over a copy (``list(draft.nodes)``) while editing.  `edits` counts the changes made so far.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.name = name
        self.edits = 0
        self.targets = frozenset(stage.targets)
        self._nodes: dict[str, StageNode] = dict(stage.nodes)
        self.nodes: Mapping[str, StageNode] = MappingProxyType(self._nodes)
        self._users: dict[str, dict[str, None]] | None = None
        self._removed: dict[str, str] = {}
        # Of nodes added or changed here: their sources and the reason; `finish` makes lineages of them, once for each node.
        self._made: dict[str, tuple[dict[str, None], str]] = {}
        self._gone: dict[str, dict[str, None]] = {}  # of removed nodes: their sources
        self._beside: dict[str, list[str]] = {}  # new nodes, by the node that they stand before
        self._suffixes: dict[str, int] = {}
        self._finished: tuple[int, Stage] | None = None

    # Looking.

    def consumers(self, name: str) -> tuple[str, ...]:
        """The names of the nodes that read an output of `name` or wait for it."""
        return tuple(self._index()[name])

    def readers(self, edge: Edge) -> list[tuple[str, int]]:
        """(consumer, input slot) of each input that is this output."""
        return [
            (user, slot)
            for user in self._index()[edge[0]]
            for slot, source in enumerate(self._nodes[user].inputs)
            if source == edge
        ]

    def waiters(self, name: str) -> list[str]:
        """The nodes with a control edge from `name`."""
        return [user for user in self._index()[name] if name in self._nodes[user].control_inputs]

    def sources(self, name: str) -> tuple[str, ...]:
        """The nodes of `stage` that the node `name` of the draft, which may have been removed from it, comes from."""
        return tuple(self._sources(name))

    def is_kept(self, name: str) -> bool:
        """Whether the node must stay under its name: a target, or a node at the edge of the program."""
        return name in self.targets or self._nodes[name].type in BOUNDARY

    # Editing.

    def add(
        self,
        op_type: str | OpDef,
        inputs: Sequence[Edge],
        attrs: Mapping[str, Any],
        *,
        like: StageNode,
        name: str,
        sources: Sequence[str],
        reason: str,
        control_inputs: Sequence[str] = (),
        output_shapes: Sequence[TensorShape] | None = None,
    ) -> str:
        """Add a node; returns its name, which is `name`, or `name` with a number if that is taken.

        Type attrs that follow from the inputs, and attrs that have defaults, may be left out.  `sources` are the nodes that it
        is made in place of; device, site and original are those of `like`, before which it stands in the stage's order.  Shapes
        come from the op's own rule if they are not given.  Raises ValueError for an unknown op type.
        """
        opdef = op_type if isinstance(op_type, OpDef) else lookup(op_type)
        if opdef is None:
            raise ValueError(f"No op of type '{op_type}' is registered")
        full = self._complete(opdef, inputs, attrs)
        unique = self._unique(name)
        dtypes = tuple(output_dtypes(opdef, full))
        node = StageNode(
            name=unique,
            opdef=opdef,
            inputs=tuple(inputs),
            control_inputs=tuple(dict.fromkeys(control_inputs)),
            attrs=full,
            device=like.device,
            input_dtypes=self._input_dtypes(opdef, inputs, full),
            output_dtypes=dtypes,
            output_shapes=(UNKNOWN,) * len(dtypes) if output_shapes is None else tuple(output_shapes),
            site=like.site,
            lineage=Lineage((), self.name),
            original=like.original,
            decision=like.decision,
        )
        if output_shapes is None:
            node = dataclasses.replace(node, output_shapes=infer_shapes(node, self._nodes))
        found: dict[str, None] = {}
        for source in sources:
            found.update(self._sources(source))
        self._made[unique] = found, reason
        self._beside.setdefault(like.name, []).append(unique)
        self._put(node)
        return unique

    def replace(
        self, name: str, *, reason: str, sources: Sequence[str] = (), infer: bool = False, **changes: Any
    ) -> None:
        """Change fields of the node `name`: `inputs`, `control_inputs`, `attrs`, `opdef` (or its name), `device` …

        `sources` are nodes that it stands for from now on beside itself.  With another `opdef`, `attrs` or `inputs`, its dtypes
        are worked out again; its shapes stay what they were, since its value does, unless `infer` asks for the op's own rule.
        """
        old = self._nodes[name]
        if isinstance(changes.get("opdef"), str):
            changes["opdef"] = lookup(changes["opdef"])
        if "opdef" in changes or "attrs" in changes:
            opdef = changes.get("opdef", old.opdef)
            inputs = changes.get("inputs", old.inputs)
            attrs = changes["attrs"] = self._complete(opdef, inputs, changes.get("attrs", old.attrs))
            changes["output_dtypes"] = tuple(output_dtypes(opdef, attrs))
            changes["input_dtypes"] = self._input_dtypes(opdef, inputs, attrs)
        elif "inputs" in changes and len(changes["inputs"]) != len(old.inputs):
            changes["input_dtypes"] = self._input_dtypes(old.opdef, changes["inputs"], old.attrs)
        if "control_inputs" in changes:
            changes["control_inputs"] = tuple(dict.fromkeys(changes["control_inputs"]))
        if "inputs" in changes:
            changes["inputs"] = tuple(changes["inputs"])
        self._note(name, sources, reason)
        node = dataclasses.replace(old, **changes)
        if infer:
            node = dataclasses.replace(node, output_shapes=infer_shapes(node, self._nodes))
        self._put(node)

    def redirect(self, old: Edge, new: Edge, reason: str) -> None:
        """Let all readers of the output `old` read `new`; control edges stay."""
        for user in list(self._index()[old[0]]):
            node = self._nodes[user]
            if user != new[0] and old in node.inputs:
                self.replace(
                    user, inputs=[new if edge == old else edge for edge in node.inputs], reason=reason
                )

    def merge(self, name: str, into: str, reason: str) -> None:
        """Let `into` stand for `name` too: readers and waiters go over, `name` is removed.

        Raises ValueError if `name` must stay (see `is_kept`).
        """
        self.merge_all([(name, into, reason)])

    def merge_all(self, merges: Sequence[tuple[str, str, str]]) -> None:
        """Merge each (name, into, reason) in turn; what reads or waits for merged nodes is written anew once, at the end.

        Raises ValueError if a name must stay (see `is_kept`).
        """
        for name, _, _ in merges:
            self._check_removable(name)
        index = self._index()
        stands: dict[str, str] = {}

        def now(name: str) -> str:
            while name in stands:
                name = stands[name]
            return name

        changed: dict[str, None] = {}
        for name, into, reason in merges:
            for user in index[name]:
                self._note(user, (), reason)
                changed[user] = None
            index[into].update(index[name])
            self._note(into, (name,), reason)
            for source in _read(self._nodes[name]):
                index[now(source)].pop(name, None)
            self._drop(name, reason)
            stands[name] = into
        for user in changed:
            node = self._nodes.get(user)
            if node is not None:
                inputs = tuple([(now(source), slot) for source, slot in node.inputs])
                control = tuple(dict.fromkeys([now(each) for each in node.control_inputs]))
                self._nodes[user] = dataclasses.replace(node, inputs=inputs, control_inputs=control)

    def remove(self, name: str, reason: str) -> None:
        """Remove a node that nobody reads; those that wait for it wait for what it waited for.

        Raises ValueError if it must stay, if it is read, or if it reads a Switch and is waited for: waiting for a Switch is
        not waiting for one of its outputs.
        """
        self._check_removable(name)
        node = self._nodes[name]
        waited = tuple(dict.fromkeys([*(source for source, _ in node.inputs), *node.control_inputs]))
        users = list(self._index()[name])
        if users and any(self._nodes[source].opdef.flow == "switch" for source, _ in node.inputs):
            raise ValueError(f"'{name}' cannot be removed: {users[0]} waits for it, and it reads a Switch")
        for user in users:
            after = self._nodes[user]
            if any(source == name for source, _ in after.inputs):
                raise ValueError(f"'{name}' cannot be removed: {user} reads it")
            control: list[str] = []
            for each in after.control_inputs:
                control.extend(waited if each == name else (each,))
            self.replace(user, control_inputs=[each for each in control if each != user], reason=reason)
        self._drop(name, reason)

    def cut(self, names: Collection[str], reason: str) -> None:
        """Remove these nodes, which nobody else reads or waits for.  Raises ValueError if somebody does, or one must stay."""
        for name in names:
            self._check_removable(name)
            for user in self._index()[name]:
                if user not in names:
                    raise ValueError(f"'{name}' cannot be removed: '{user}' uses it")
        for name in [name for name in self._nodes if name in names]:
            self._drop(name, reason)

    def sweep(self, needed: Callable[[str], bool], frame: Callable[[str], Hashable]) -> None:
        """Remove what leads to nothing: neither to a node that must stay nor to one that is `needed` by itself.

        A loop of which anything stays keeps its LoopCond, even where nobody reads that, as when it is constant: whoever runs the
        loop on several devices, or simulates it, asks it whether there is another iteration.  `frame` says where a node is.
        """
        reached: set[str] = set()
        self._reach([name for name in self._nodes if self.is_kept(name) or needed(name)], reached)
        for name, node in self._nodes.items():
            if node.opdef.flow == "loop_cond" and name not in reached:
                inside = frame(name)
                if any(frame(each) == inside for each in reached):
                    self._reach([name], reached)
        for name in [name for name in self._nodes if name not in reached]:
            user = next(iter(self.stage.consumers.get(name, ())), "")
            self._drop(name, f"nothing needs it since '{user}' changed" if user else "nothing needs it")

    def _reach(self, pending: list[str], reached: set[str]) -> None:
        """Add `pending`, and all that these nodes need, to `reached`."""
        reached.update(pending)
        while pending:
            node = self._nodes[pending.pop()]
            for source, _ in node.inputs:
                if source not in reached:
                    reached.add(source)
                    pending.append(source)
            for source in node.control_inputs:
                if source not in reached:
                    reached.add(source)
                    pending.append(source)

    def finish(self) -> Stage:
        """The stage as edited; the very stage that was given if nothing has changed."""
        if not self.edits:
            return self.stage
        if self._finished is not None and self._finished[0] == self.edits:
            return self._finished[1]
        nodes = self._in_order()
        for name, (sources, reason) in self._made.items():
            lineage = Lineage(tuple(sources), self.name, reason)
            nodes[name] = dataclasses.replace(nodes[name], lineage=lineage)
        stage = self.stage.followed_by(self.name, nodes, self._removed)
        self._finished = self.edits, stage
        return stage

    def then(self, name: str) -> Draft:
        """A draft of what `finish` gives, on the way to the next stage; this one is used up.

        What is known of who uses what goes over, which is why a pipeline asks for it here and starts no new draft.
        """
        following = Draft(self.finish(), name)
        following._users = self._users
        return following

    # Inside.

    def _index(self) -> dict[str, dict[str, None]]:
        if self._users is None:
            users: dict[str, dict[str, None]] = {name: {} for name in self._nodes}
            for name, node in self._nodes.items():
                for source, _ in node.inputs:
                    users[source][name] = None
                for source in node.control_inputs:
                    users[source][name] = None
            self._users = users
        return self._users

    def _put(self, node: StageNode) -> None:
        """Make `node` the node of its name, and keep the index of users true."""
        self.edits += 1
        old = self._nodes.get(node.name)
        self._nodes[node.name] = node
        users = self._users
        if users is None:
            return
        if old is not None:
            for source in _read(old):
                users[source].pop(node.name, None)
        else:
            users[node.name] = {}
        for source in _read(node):
            users[source][node.name] = None

    def _drop(self, name: str, reason: str) -> None:
        self.edits += 1
        self._gone[name] = self._sources(name)
        self._made.pop(name, None)
        node = self._nodes.pop(name)
        if self._users is not None:
            for source in _read(node):
                if source in self._users:
                    self._users[source].pop(name, None)
            del self._users[name]
        if name in self.stage.nodes:
            self._removed[name] = reason

    def _check_removable(self, name: str) -> None:
        if self.is_kept(name):
            what = "a target" if name in self.targets else "an edge of the program"
            raise ValueError(f"'{name}' is {what} and stays")

    def _note(self, name: str, sources: Iterable[str], reason: str) -> None:
        """Remember another change to `name`, which stands for `sources` too from now on."""
        found, known = self._made.get(name) or ({name: None}, "")
        for source in sources:
            found.update(self._sources(source))
        if reason and reason not in known:
            known = f"{known}; {reason}" if known else reason
        self._made[name] = found, known

    def _sources(self, name: str) -> dict[str, None]:
        """The nodes of `stage` that this one comes from, which is a node of the draft, or was one."""
        if name in self._made:
            return self._made[name][0]
        return self._gone.get(name) or {name: None}

    def _unique(self, name: str) -> str:
        if name not in self._nodes and name not in self.stage.nodes and name not in self._gone:
            return name
        number = self._suffixes.get(name, 0) + 1
        while (
            (found := f"{name}_{number}") in self._nodes or found in self.stage.nodes or found in self._gone
        ):
            number += 1
        self._suffixes[name] = number
        return found

    def _dtype(self, edge: Edge) -> DType:
        return self._nodes[edge[0]].output_dtypes[edge[1]]

    def _complete(self, opdef: OpDef, inputs: Sequence[Edge], attrs: Mapping[str, Any]) -> dict[str, Any]:
        """`attrs` with what follows from the inputs' number and dtypes, and with defaults."""
        full = dict(attrs)
        position = 0
        for spec in opdef.signature.inputs:
            if spec.type_list_attr is not None:
                count = len(
                    full.setdefault(
                        spec.type_list_attr, tuple(self._dtype(e).base_dtype for e in inputs[position:])
                    )
                )
            elif spec.number_attr is not None:
                singles = sum(1 for each in opdef.signature.inputs if not each.is_list)
                count = full.setdefault(spec.number_attr, len(inputs) - singles)
            else:
                count = 1
            if spec.type_attr is not None and spec.type_attr not in full and count:
                full[spec.type_attr] = self._dtype(inputs[position]).base_dtype
            position += count
        for attr in opdef.signature.attrs.values():
            if attr.has_default:
                full.setdefault(attr.name, attr.default)
        return full

    def _input_dtypes(
        self, opdef: OpDef, inputs: Sequence[Edge], attrs: Mapping[str, Any]
    ) -> tuple[DType, ...]:
        takes_ref: list[bool] = []
        for spec in opdef.signature.inputs:
            if spec.type_list_attr is not None:
                takes_ref += [spec.is_ref] * len(attrs[spec.type_list_attr])
            else:
                takes_ref += [spec.is_ref] * (1 if spec.number_attr is None else attrs[spec.number_attr])
        found = [self._dtype(edge) for edge in inputs]
        return tuple(dtype if ref else dtype.base_dtype for dtype, ref in zip(found, takes_ref, strict=True))

    def _in_order(self) -> dict[str, StageNode]:
        """The nodes in the order of the stage before, each new one before the node that it is like."""
        if not self._beside:
            return dict(self._nodes)
        ordered: dict[str, StageNode] = {}
        stack: list[tuple[str, bool]] = [(name, False) for name in reversed(self.stage.order)]
        while stack:
            name, expanded = stack.pop()
            beside = None if expanded else self._beside.get(name)
            if beside:
                stack.append((name, True))
                stack.extend((each, False) for each in reversed(beside))
            elif name in self._nodes:
                ordered[name] = self._nodes[name]
        return ordered


def _read(node: StageNode) -> set[str]:
    """The nodes that `node` reads or waits for."""
    return {*[source for source, _ in node.inputs], *node.control_inputs}
