"""Specialisations of a plan: for the shapes that its feeds have, with machine code for all that has fixed shapes then.

A plan without a specialisation runs as Python that works for any shapes.  A combination of shapes is worth one when it has come
a few times (at once if there is a loop); where shapes keep changing, the number of combinations is bounded, and those beyond run
as Python.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.observe import TraceLevel
from engine.runtime import step
from engine.runtime.plan import python
from engine.runtime.plan.ir import Compute, Linear, Native
from engine.runtime.plan.paths import Layout
from engine.types import site

if TYPE_CHECKING:
    from concurrent.futures import Future

    from engine.runtime.executable import Executable
    from engine.runtime.plan.native_writes import Effect

Shapes = tuple[tuple[int, ...], ...]

MOST = 8  # combinations of shapes of one plan that get a specialisation
TINY = 5  # instructions, feeds and fetches included: with fewer, on arrays of no more than
SMALL = 1024  # elements, Python is as fast
_WORTH = 3  # runs with the same shapes


@dataclass(slots=True, eq=False)
class Special:
    """A specialisation: the linear program with segments, and as Python that calls them.

    `refused`: (instruction, reason) for what could not be in a segment.
    """

    linear: Linear
    program: python.PythonProgram
    segments: list[Native]
    refused: list[tuple[Any, str]]
    _noted: dict[TraceLevel, python.PythonProgram] = field(default_factory=dict)
    _layouts: dict[bool, Layout] = field(default_factory=dict)
    _blind: str | None = None
    _watched: tuple[list[Native], dict[int, tuple[int, Effect]]] | None = None

    @property
    def blind(self) -> str:
        """Why the tapes do not serve at level values, or ""."""
        if self._blind is None:
            from engine.runtime.plan.native_health import blind

            self._blind = next(filter(None, map(blind, self.segments)), "")
        return self._blind

    def noted(self, executable: Executable, level: TraceLevel) -> python.PythonProgram:
        """The program for those who watch, written when it is first asked for; the segments are ready for it."""
        for each in self.segments:
            each.segment.prepare(looks=level >= TraceLevel.VALUES)
        found = self._noted.get(level)
        if found is None:
            found = self._noted[level] = python.write(self.linear, executable, level, noted=True)
        return found

    def watched(self) -> tuple[list[Native], dict[int, tuple[int, Effect]]]:
        """The segments in the order of the text, the n-th (from 1) being its ``segn``; and what items in them do, with its n."""
        if self._watched is None:
            natives = [each for each in self.linear.walk() if isinstance(each, Native)]
            effects = {
                item: (number, effect)
                for number, native in enumerate(natives, 1)
                for item, effect in native.effects
            }
            self._watched = natives, effects
        return self._watched

    def layout(self, executable: Executable, level: TraceLevel) -> Layout:
        """What the log of `noted` means."""
        from engine.runtime.plan.stamped import expanded

        values = level >= TraceLevel.VALUES
        found = self._layouts.get(values)
        if found is None:
            found = self._layouts[values] = Layout(expanded(self.linear), executable, values)
        return found


class Specials:
    """The specialisations of one plan, by the shapes of its feeds.  Nothing is compiled where llvmlite is missing.

    `background`: a program without loops goes on as Python while its specialisation is made.  `failed`: what making one raised,
    which is a defect; the plan stays Python then.
    """

    def __init__(
        self, linear: Linear, executable: Executable, exact: bool, threads: int = 0, background: bool = False
    ) -> None:
        self.linear = linear
        self.executable = executable
        self.exact = exact
        self.threads = threads
        self.made: dict[Shapes, Special | None] = {}
        self.runs: dict[Shapes, int] = {}
        self.failed: Exception | None = None
        # Whether all shapes of feeds are known anyway, so that there is only one specialisation.
        self.alone = all(
            shape.is_fully_defined()
            for node in executable.stage
            if node.type == "_Arg"
            for shape in node.output_shapes
        )
        self.worth = 1 if linear.loops else _WORTH
        self._background = background and not linear.loops
        self._coming: dict[Shapes, Future[Special | None]] = {}
        self._lock = threading.Lock()

    def find(self, feeds: Sequence[Any]) -> Special | None:
        """The specialisation for a run with these feeds, made if it is time; None: there is none (yet)."""
        shapes = tuple([feed.shape for feed in feeds])
        try:
            return self.made[shapes]
        except KeyError:
            return self._look(shapes)

    def _look(self, shapes: Shapes) -> Special | None:
        with self._lock:
            if shapes in self.made:
                return self.made[shapes]
            coming = self._coming.get(shapes)
            if coming is not None:
                if not coming.done():
                    return None
                del self._coming[shapes]
                self.made[shapes] = None if coming.cancelled() else coming.result()
                return self.made[shapes]
            if len(self.made) + len(self._coming) >= MOST:
                return None
            if len(self.runs) > 64 * MOST:
                self.runs.clear()
            self.runs[shapes] = self.runs.get(shapes, 0) + 1
            if self.runs[shapes] < self.worth:
                return None
            if self._is_tiny():
                self.made[shapes] = None
                return None
            from engine.native import compiler

            if self._background:
                self._coming[shapes] = compiler.in_background(lambda: self._try(shapes))
                return None
            made = self.made[shapes] = self._try(shapes)
            return made

    def _is_tiny(self) -> bool:
        """Whether there is so little to compute that a segment would not pay."""
        if self.linear.loops:
            return False
        computes = [
            each.item for each in self.linear.walk() if isinstance(each, Compute) and python.stamped(each)
        ]
        return (
            len(computes) < TINY
            and not any(item.node.type.startswith("_Fused") for item in computes)
            and all(
                0 <= (shape.num_elements() or 0) <= SMALL and shape.is_fully_defined()
                for item in computes
                for shape in item.node.output_shapes
            )
        )

    def _try(self, shapes: Shapes) -> Special | None:
        try:
            return self.make(shapes)
        except Exception as error:
            self.failed = error.with_traceback(None)
            warnings.warn(
                f"A plan stays Python, since its machine code could not be made: {type(error).__name__}: {error}. "
                "This is a defect; results are not affected.",
                RuntimeWarning,
                stacklevel=site.stacklevel(),
            )
            return None

    def make(self, shapes: Shapes) -> Special | None:
        """The specialisation for feeds of these shapes; None if no part of the program gets machine code."""
        from engine.native import compiler
        from engine.runtime.plan.lower import Lowering
        from engine.runtime.plan.shapes import nodes_with_shapes

        if not compiler.available():
            return None
        nodes = nodes_with_shapes(self.linear, self.executable.program, shapes)
        lowering = Lowering(self.linear, self.executable, nodes, self.exact, self.threads)
        linear = lowering.run()
        if not lowering.segments:
            return None
        program = python.write(linear, self.executable, checker=step.checker)
        return Special(linear, program, lowering.segments, lowering.refused)
