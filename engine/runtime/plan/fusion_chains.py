"""A group of steps written down as a chain for `engine.native.elementwise.fused`, what it costs, and its kernel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.runtime.plan import fusion_costs
from engine.runtime.plan.fusion_forms import Form, Operand
from engine.runtime.plan.recording import Recorder, Step

if TYPE_CHECKING:
    from engine.native.kernel import NativeKernel
    from engine.native.layout import View

_MOST_OPERANDS = 24


@dataclass(frozen=True, slots=True)
class Program:
    """Steps, the forms of those that are elementwise, and by slot the steps that fill a buffer with one number for good."""

    recorder: Recorder
    steps: Sequence[Step]
    forms: Mapping[int, Form]
    filled: Mapping[int, Step]


@dataclass(slots=True)
class Chain:
    """What is to be one call.

    steps, inputs, outputs: as the kernel gets them; an output is where it goes, and the number of the step that makes it.
    members: which of the program's steps it stands for; at: the one in whose stead it comes.  rank, kind: of a reduction at the
    end, over so many dimensions.  took, saved: ns of a call, and what it saves.
    """

    steps: list[tuple[str, list[str], dict[str, Any]]]
    inputs: list[View]
    outputs: list[tuple[View, int]]
    shape: tuple[int, ...]
    members: list[int]
    at: int
    rank: int = 0
    kind: str = ""
    saved: float = 0.0
    took: float = 0.0


def write(
    program: Program, steps: Sequence[int], shape: tuple[int, ...], live: Iterable[int], fold: int, at: int
) -> Chain | str:
    """Steps whose loop has this shape, as a call that leaves the buffers `live` or ends in the reduction `fold`; or why not."""
    members, live = set(steps), set(live)
    made = _Writer(program, shape)
    targets: dict[int, View] = {}
    for number in steps:
        form = program.forms[number]
        slot = form.target.slot
        if program.steps[number].kind == "copy" and not form.full and slot in live:
            made.spread(form)  # it stays, and its readers here do without it
            live.remove(slot)
            members.remove(number)
        else:
            made.add(program.steps[number], form)
            targets[slot] = form.target
    chain = Chain(made.steps, made.inputs, [], shape, sorted(members), at)
    if not live or not members:
        return "nothing but the group reads what it makes"
    if len(chain.inputs) + len(live) > _MOST_OPERANDS:
        return f"it has more than {_MOST_OPERANDS} operands"
    for slot in sorted(live):
        token = made.values[slot]
        if not made.is_full(token) or token[0] != "t":
            return "a result is smaller than the loop"
        chain.outputs.append((_view(slot, targets[slot].dtype, shape), int(token[1:])))
    if fold >= 0:
        _end(chain, program.steps[fold])
        chain.members.append(fold)
    _estimate(chain, program.steps)
    return chain


def _end(chain: Chain, step: Step) -> None:
    (target,) = step.writes
    width, axes = step.reads[0].size // target.size, 0
    if len(chain.shape) == 1:
        chain.shape = (target.size, width)
        chain.inputs = [
            _view(view.slot, view.dtype, chain.shape, view.offset) if view.size > 1 else view
            for view in chain.inputs
        ]
    while math.prod(chain.shape[len(chain.shape) - axes :]) < width or not axes:
        axes += 1
    chain.rank, chain.kind = axes, fusion_costs.FOLDS[step.data[0]]
    chain.outputs = [(_view(target.slot, target.dtype, target.shape), chain.outputs[0][1])]


def _estimate(chain: Chain, program: Sequence[Step]) -> None:
    steps = [program[number] for number in chain.members]
    size = math.prod(chain.shape)
    repeated = sum(1 < view.size < size for view in chain.inputs)
    outside = [*chain.inputs, *(view for view, _ in chain.outputs)]
    chain.took = fusion_costs.fused(steps, outside, chain.shape, repeated, folded=chain.rank > 0)
    chain.saved = sum(map(fusion_costs.alone, steps)) - chain.took


def kernel_of(chain: Chain) -> NativeKernel | str:
    """Compile it, or find it on the disk; or why it cannot be.  Raises UnavailableError without llvmlite."""
    from engine.native.elementwise import Reduction, fused, why_not

    arguments: tuple[Any, ...] = (
        chain.steps,
        [view.dtype for view in chain.inputs],
        [view.shape for view in chain.inputs],
        [number for _, number in chain.outputs],
        Reduction(chain.kind, chain.rank) if chain.rank else None,
    )
    kernel = fused(*arguments)
    if kernel is None:
        return why_not(*arguments)
    for i, (out, _) in enumerate(chain.outputs):
        for k, view in enumerate(chain.inputs):
            if view.slot == out.slot and k not in kernel.overwrites.get(i, ()):
                return "it would write over what it reads"
    return kernel


class _Writer:
    """Writes steps down: `values` has, by slot, what a buffer holds at this point, as "x" or "t" and a number."""

    def __init__(self, program: Program, shape: tuple[int, ...]) -> None:
        self.program = program
        self.shape = shape
        self.steps: list[tuple[str, list[str], dict[str, Any]]] = []
        self.full: list[bool] = []  # of each step: whether it is as large as the loop
        self.inputs: list[View] = []
        self.values: dict[int, str] = {}
        self._numbers: dict[View, int] = {}

    def add(self, step: Step, form: Form) -> None:
        tokens = [self._operand(each) for each in form.operands]
        attrs = {"DstT": form.target.dtype} if step.kind == "cast" else {}
        more = len(form.types) - 1  # the first op takes all operands but these
        operands, rest = tokens[: len(tokens) - more], tokens[len(tokens) - more :]
        for i, type in enumerate(form.types):
            if i:
                operands = [f"t{len(self.steps) - 1}", rest[i - 1]]
            self.full.append(any(self.is_full(each) for each in operands))
            self.steps.append((type, operands, attrs))
        self.values[form.target.slot] = f"t{len(self.steps) - 1}"

    def spread(self, form: Form) -> None:
        """A copy that only repeats its source: what reads it, reads the source."""
        self.values[form.target.slot] = self._operand(form.operands[0])

    def is_full(self, token: str) -> bool:
        number = int(token[1:])
        return self.full[number] if token[0] == "t" else self.inputs[number].shape == self.shape

    def _operand(self, operand: Operand) -> str:
        view = operand.view
        found = self.values.get(view.slot)
        if found is not None:
            return found
        fill = self.program.filled.get(view.slot)
        if fill is not None:
            view = self.program.recorder.constant(np.array(fill.data).astype(view.dtype))
            placed = _view(view.slot, view.dtype, ())
        else:
            shape = self.shape if operand.shape is None else operand.shape
            placed = _view(view.slot, view.dtype, shape, view.offset)
        number = self._numbers.setdefault(placed, len(self.inputs))
        if number == len(self.inputs):
            self.inputs.append(placed)
        return f"x{number}"


def _view(slot: int, dtype: Any, shape: tuple[int, ...], offset: int = 0) -> View:
    from engine.native.layout import View

    return View.of(slot, dtype, shape, offset)
