"""Facts about the nodes of a draft that passes ask for: frames, when a node is alive, what has effects, values, shapes.

Everything is worked out when it is asked for and remembered.  What is remembered stays true while a pass edits, since a pass
never changes what a tensor's value is, in which frame it is made, or when it is alive; a node that has come since is worked out
from its inputs like any other.

When a node is alive is kept as a set of conditions that must all hold.  A condition is one output of a predicate, "the tensor p
chose output k", or, where a Merge joins what has no more in common, the Merge itself.  A Merge of the two sides of one
predicate needs only what both sides need: that is how a `cond` ends.  (TensorFlow's XLA bridge has such an analysis, with general
formulas, to find out what may be dead.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from engine.op.registry import OpDef
from engine.op.shapes import broadcast, constant_value, unchanged
from engine.passes.rewrite import BOUNDARY, Draft, Edge
from engine.passes.settings import Settings
from engine.passes.stage import StageNode
from engine.passes.views import view
from engine.types.shape import Dims

Frame = tuple[str, ...]
Alive = frozenset[Any]
ALWAYS: Alive = frozenset()
ROOT: Frame = ()
T = TypeVar("T")

RANDOM = frozenset({
    "RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt", "RandomShuffle", "Multinomial",
    "RandomGamma", "RandomPoisson", "RandomPoissonV2", "ParameterizedTruncatedNormal",
})  # fmt: skip
# Stateful, and yet nobody can tell whether they have run.
_SILENT = frozenset(
    {"_Arg", "_Retval", "VariableV2", "Variable", "Placeholder", "PlaceholderV2", "IsVariableInitialized"}
)
_FAR = 64
# Kernels that give views, and those that lay their result out like their input.
_VIEWS = frozenset({
    "Transpose", "ConjugateTranspose", "StridedSlice", "Slice", "Split", "SplitV", "Unpack", "ReverseV2", "Reverse",
    "BroadcastTo", "Real", "Imag", "DiagPart", "MatrixDiagPart",
})  # fmt: skip
_KEEPING = frozenset({
    "Identity", "IdentityN", "StopGradient", "PreventGradient", "EnsureShape", "Reshape", "Squeeze", "ExpandDims", "Cast", "Relu",
    "Relu6", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Softplus", "AddN", "Select", "SelectV2", "BiasAdd", "ReluGrad",
    "SigmoidGrad", "TanhGrad", "Square", "Pow", "CheckNumerics", "ZerosLike", "OnesLike",
})  # fmt: skip


class Facts:
    """What is known of a draft; `devices` are the session's, for the passes that come after placement."""

    def __init__(self, draft: Draft, devices: Sequence[Any] = (), settings: Settings | None = None) -> None:
        self.draft = draft
        self.devices = tuple(devices)
        self._devices = {device.name: device for device in self.devices}
        self.settings = settings or Settings()
        self.nodes: Mapping[str, StageNode] = draft.nodes
        self._frames: dict[str, Frame] = {}
        self._alive: dict[str, Alive] = {}
        self._values: dict[Edge, Any] = {}
        self._quiet: dict[StageNode, bool] = {}
        self._effects: set[str] | None = None  # nodes after an effect
        self._reads: set[str] = set()  # nodes after a read of a variable
        self._acts: set[str] = set()  # nodes before an effect
        self._known: set[str] = set()  # the nodes that there were when those were found
        self._flows = any(node.opdef.flow for node in self.nodes.values())

    def carry_on(self, draft: Draft) -> Facts:
        """These facts for the draft that comes after the one they were found for."""
        if draft.stage is not self.draft.stage:
            self._alive.clear()  # still true, but told in terms of predicates that others may stand for now
            self._effects = None
        self.draft = draft
        self.nodes = draft.nodes
        self._flows = any(node.opdef.flow for node in self.nodes.values())
        return self

    # Where it is.

    def shares(self, name: str, opdef: OpDef) -> bool:
        """Whether the node may be part of an `opdef` on its device: that has a kernel of it, and none of its own for the node.

        Kernels of fused ops run those of their parts that all devices share.  True where no devices are known.
        """
        node = self.nodes[name]
        device = self._devices.get(node.device, self.devices[0] if self.devices else None)
        if device is None:
            return True
        kinds = (*node.input_dtypes, *node.output_dtypes)
        return (
            device.kernel(opdef, kinds) is not None and device.kernel(node.opdef, kinds) is node.opdef.kernel
        )

    # What a node is.

    def stateful(self, name: str) -> bool:
        """Whether the node touches resources, randomness or the outside, or deals in references to variables."""
        node = self.nodes[name]
        if node.opdef.stateful:
            return True
        return any(dtype._is_ref_dtype for dtype in (*node.output_dtypes, *node.input_dtypes))

    def random(self, name: str) -> bool:
        """Whether the node draws random numbers."""
        return self.nodes[name].type in RANDOM

    def reads_reference(self, name: str) -> bool:
        """Whether the node reads the value of a variable through a reference, so that when it runs matters."""
        nodes = self.nodes
        return any(nodes[source].output_dtypes[slot]._is_ref_dtype for source, slot in nodes[name].inputs)

    def pure(self, name: str) -> bool:
        """Whether the node computes its outputs from its inputs and from nothing else, whenever it runs."""
        node = self.nodes[name]
        return not node.opdef.flow and self.quiet(name) and node.type not in BOUNDARY

    def quiet(self, name: str) -> bool:
        """Whether the node has no state, deals in no references and reads no variable through one."""
        node = self.nodes[name]
        found = self._quiet.get(node)
        if found is None:
            found = self._quiet[node] = not self.stateful(name) and not self.reads_reference(name)
        return found

    def effect(self, name: str) -> bool:
        """Whether it matters that the node runs, even if nobody reads what it gives."""
        node = self.nodes[name]
        return node.opdef.stateful and node.type not in _SILENT

    def ordered(self, first: str, then: str) -> bool:
        """Whether it may matter that `then` comes after `first`: an effect comes before, or a read before an effect.

        A random op counts for neither: each has a counter of its own, so that nobody can tell when it ran.
        """
        if self._effects is None:
            acting = [name for name in self.nodes if self.effect(name) and not self.random(name)]
            reading = [name for name in self.nodes if self.reads_reference(name)]
            self._effects = self._reach(acting, self.draft.consumers)
            self._reads = self._reach(reading, self.draft.consumers)
            self._acts = self._reach(acting, self._sources)
            self._known = set(self.nodes)
        if self._after(first, self._effects):
            return True
        return self._after(first, self._reads) and self._before_effect(then)

    def _sources(self, name: str) -> list[str]:
        node = self.nodes[name]
        return [*[source for source, _ in node.inputs], *node.control_inputs]

    @staticmethod
    def _reach(start: list[str], step: Callable[[str], Sequence[str]]) -> set[str]:
        """`start`, and what can be reached from there."""
        found = set(start)
        pending = list(start)
        while pending:
            for name in step(pending.pop()):
                if name not in found:
                    found.add(name)
                    pending.append(name)
        return found

    def _after(self, name: str, known: set[str]) -> bool:
        if name in self._known:
            return name in known
        return any(self._after(source, known) for source in self._sources(name))  # it came since

    def _before_effect(self, name: str) -> bool:
        if name in self._known:
            return name in self._acts
        return any(self._before_effect(user) for user in self.draft.consumers(name))

    def is_constant(self, edge: Edge) -> bool:
        return self.nodes[edge[0]].type == "Const"

    # Shapes and values.

    def dims(self, edge: Edge) -> Dims:
        """The static shape of a tensor: ints and Nones, or None for an unknown rank."""
        return self.nodes[edge[0]].output_shapes[edge[1]].dims_or_none

    def full_dims(self, edge: Edge) -> tuple[int, ...] | None:
        """The static shape of a tensor if all of it is known, else None."""
        dims = self.dims(edge)
        return None if dims is None or None in dims else dims  # type: ignore[return-value]  # just asked

    def value(self, edge: Edge) -> Any:
        """The value of a tensor if it follows from constants and static shapes (an array, not to be changed), else None."""
        name, slot = edge
        node = self.nodes[name]
        if node.type == "Const":
            return node.attrs["value"]
        if edge not in self._values:
            self._values[edge] = self._work_out(node) if slot == 0 else None
        return self._values[edge]

    def _work_out(self, node: StageNode) -> Any:
        if node.opdef.flow or self.stateful(node.name):
            return None
        try:
            return constant_value(view(node, self.nodes).outputs[0])
        except (ValueError, TypeError):  # it will fail when it runs, and say why there
            return None

    def scalar(self, edge: Edge) -> Any:
        """The Python number that all elements of a constant tensor are, or None; an empty tensor has none."""
        value = self.value(edge)
        if (
            value is None
            or not isinstance(value, np.ndarray)
            or value.size == 0
            or value.dtype.kind not in "biuf"
        ):
            return None
        first = value.flat[0]
        return first.item() if value.size == 1 or bool((value == first).all()) else None

    def same_shape(self, edge: Edge) -> Edge:
        """The tensor furthest back that surely has the shape of this one, whatever that is: through ops that keep it."""
        for _ in range(_FAR):
            node = self.nodes[edge[0]]
            if edge[1] or not self.pure(node.name) or not node.inputs:
                break
            if node.opdef.shape is unchanged:
                edge = node.inputs[0]
                continue
            if node.opdef.shape is not broadcast or len(node.inputs) != 2:
                break
            first, second = node.inputs
            if self.dims(second) == () or first == second:
                edge = first
            elif self.dims(first) == ():
                edge = second
            else:
                break
        return edge

    def strided(self, edge: Edge) -> bool:
        """Whether an array may be a view with steps, not one stretch of memory: a Transpose or slice, or what keeps its order.

        Nearly every other op gives a new array; how NumPy walks through memory may decide the last bits of a sum.
        """
        seen: set[str] = set()
        stack = [edge[0]]
        while stack:
            node = self.nodes[stack.pop()]
            if node.name in seen:
                continue
            seen.add(node.name)
            if node.type in _VIEWS or len(seen) > 32:
                return True
            if node.type == "Const" and not node.attrs["value"].flags.c_contiguous:
                return True
            if node.opdef.flow or node.opdef.ufunc is not None or node.type in _KEEPING:
                stack.extend(source for source, _ in node.inputs)
        return False

    # Frames.

    def frame(self, name: str) -> Frame:
        """The names of the frames, from the outermost, in which the node runs; () is the root."""
        if not self._flows:
            return ROOT
        return self._walk(self._frames, name, self._deciding, self._frame_of)

    def inner_frame(self, name: str) -> Frame:
        """The frame in which the node's outputs are: another than its own for Enter and Exit."""
        frame = self.frame(name)
        node = self.nodes[name]
        if node.opdef.flow == "enter":
            return (*frame, node.attrs["frame_name"])
        return frame[:-1] if node.opdef.flow == "exit" else frame

    def moved(self, name: str) -> None:
        """Work the node's frame out anew: it was an Exit, which runs inside of the loop, and is something outside of it now."""
        self._frames.pop(name, None)

    @property
    def flows(self) -> bool:
        """Whether there is any control flow in the graph."""
        return self._flows

    def _deciding(self, node: StageNode) -> list[str]:
        """One source that says in which frame the node is: any but a back edge."""
        for source in (*(name for name, _ in node.inputs), *node.control_inputs):
            if self.nodes[source].opdef.flow != "next_iteration":
                return [source]
        return []

    def _frame_of(self, node: StageNode, sources: list[str]) -> Frame:
        if not sources:
            return ROOT
        source = self.nodes[sources[0]]
        frame = self._frames.get(source.name, ROOT)  # not there: a cycle, which the runtime will name
        if source.opdef.flow == "enter":
            return (*frame, source.attrs["frame_name"])
        return frame[:-1] if source.opdef.flow == "exit" else frame

    # When nodes are alive.

    def alive(self, name: str) -> Alive:
        """The conditions under which the node is alive, within its frame and iteration; none: it is whenever its frame is."""
        if not self._flows:
            return ALWAYS
        return self._walk(self._alive, name, self._waited_for, self._alive_if)

    def alive_edge(self, edge: Edge) -> Alive:
        """The conditions under which a token on this output is alive."""
        return self._through(edge, self.alive(edge[0]))

    def _waited_for(self, node: StageNode) -> list[str]:
        if node.opdef.flow == "merge" and any(
            self.nodes[source].opdef.flow == "next_iteration" for source, _ in node.inputs
        ):
            return []
        return [*(source for source, _ in node.inputs), *node.control_inputs]

    def _through(self, edge: Edge, alive: Alive) -> Alive:
        node = self.nodes[edge[0]]
        if node.opdef.flow != "switch":
            return alive
        return alive | {(node.inputs[1], edge[1])}

    def _alive_if(self, node: StageNode, sources: list[str]) -> Alive:
        known = self._alive
        if node.opdef.flow == "merge":
            if not sources:
                return frozenset({("merge", node.name)})
            sides = [self._through(edge, known.get(edge[0], ALWAYS)) for edge in node.inputs]
            joined = _join(sides)
            found = frozenset({("merge", node.name)}) if joined is None else joined
            for source in node.control_inputs:
                found |= known.get(source, ALWAYS)
            return found
        if node.opdef.flow in ("exit", "control_trigger"):
            return frozenset({(node.opdef.flow, node.name)})
        found = ALWAYS
        for edge in node.inputs:
            side = self._through(edge, known.get(edge[0], ALWAYS))
            found = side if not found else found if found >= side else found | side
        for source in node.control_inputs:
            side = known.get(source, ALWAYS)
            found = side if not found else found if found >= side else found | side
        return found

    # Walking.

    def _walk(
        self,
        known: dict[str, T],
        name: str,
        sources_of: Callable[[StageNode], list[str]],
        work_out: Callable[[StageNode, list[str]], T],
    ) -> T:
        """What `work_out` says of a node, once the same is known of its sources; deep graphs need no deep stack."""
        if name in known:
            return known[name]
        stack = [name]
        under_way: set[str] = set()
        while stack:
            current = stack[-1]
            if current in known:
                stack.pop()
                continue
            node = self.nodes[current]
            sources = sources_of(node)
            missing = [source for source in sources if source not in known and source not in under_way]
            if missing and current not in under_way:
                under_way.add(current)
                stack.extend(missing)
                continue
            under_way.discard(current)
            known[current] = work_out(node, sources)
            stack.pop()
        return known[name]


def _join(sides: Sequence[Alive]) -> Alive | None:
    """What all sides need, if between them they cover every case of it: the two outputs of one predicate, taken together."""
    if len(sides) != 2:
        return sides[0] if all(side == sides[0] for side in sides) else None
    a, b = sides
    common = a & b
    if a == common or b == common:
        return common
    only_a, only_b = a - common, b - common
    if len(only_a) == len(only_b) == 1:
        (one,), (other,) = only_a, only_b
        if one[0] == other[0] and {one[1], other[1]} == {0, 1}:
            return common
    return None
