"""Direct convolution: pixels times filters, without copying windows.

Images are NHWC, so that a row of a window is one run of (filter width · channels) numbers.  A tile of pixels × output channels is
held in registers while the run goes by (`engine.native.conv_sums`).  Taps are taken in strips whose filters stay in the
first-level cache, and rows of the image in groups that stay in the second-level one.

The gradient for the input is the same thing over padded gradients, with flipped and transposed filters; for strides it falls into
one convolution for each remainder of (row, column) by the stride, with those taps that reach such pixels (`Job`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from engine.native.conv_geometry import Pair, best_tile
from engine.native.conv_sums import Block, ChannelLanes, Plan, Strip, TapLanes
from engine.native.emitter import Function, Value, balanced

_STRIP_BYTES = 16 << 10  # of filters: half of a first-level cache
_GROUP_BYTES = 128 << 10  # of image rows
_FEW_IMAGES = 4  # fewer are cut, so that there is work for
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Job:
    """One convolution over an image: for `size` pixels (rows, columns), windows of `rows` rows and `run` numbers in each.

    source, target, weights: bytes to the first window, the first result and the filters; weight_vector: from the filters of one
    register's output channels to the next.
    """

    size: Pair
    rows: Value
    run: Value
    source: Value
    target: Value
    weights: Value
    weight_vector: Value


def groups_of(rows: int, row_bytes: int, images: int) -> int:
    """Into how many groups of rows an image is cut, for the cache, and for several threads where there are few images."""
    for_cache = -(-rows * row_bytes // _GROUP_BYTES)
    for_threads = -(-_THREADS // max(images, 1)) if images < _FEW_IMAGES else 1
    return max(1, min(rows, max(for_cache, for_threads)))


def convolve(f: Function, plan: Plan, jobs: Sequence[Job], at: Operands, group: Value) -> None:
    """Write the code for one group of rows of one image: all jobs, those of one size by the same code."""

    def kind(job: Job) -> tuple[Pair, bool]:
        return job.size, job.rows == 0

    for (size, _), alike in groupby(sorted(jobs, key=kind), kind):
        same = list(alike)
        table = f.table([(j.rows, j.run, j.source, j.target, j.weights, j.weight_vector) for j in same])

        def job(i: Value, _: Sequence[str], size: Pair = size, same: Sequence[Job] = same) -> Sequence[str]:
            _Convolver(f, plan, same, Job(size, *table(i)), at).rows(group)  # noqa: B023 (called at once)
            return ()

        f.loop(0, len(same), job)


@dataclass(frozen=True, slots=True)
class Operands:
    """Where the image, its results, the filters and the bias are."""

    source: str
    target: str
    weights: str
    bias: str | None


class _Convolver:
    """The code for `job`, which stands for any of `jobs`."""

    def __init__(self, f: Function, plan: Plan, jobs: Sequence[Job], job: Job, at: Operands) -> None:
        self.f, self.plan, self.job, self.at = f, plan, job, at
        self.sums = TapLanes(f, plan) if plan.taps_in_lanes else ChannelLanes(f, plan)
        self.weights = f.at(at.weights, job.weights)
        self.weight_row = f.index("mul", job.run, plan.weight_tap)
        sizes = [
            (job.rows, job.run) for job in jobs if isinstance(job.rows, int) and isinstance(job.run, int)
        ]
        self.height, self.run = max(rows for rows, _ in sizes), max(run for _, run in sizes)
        self.taps = max(rows * run for rows, run in sizes)
        self.tail = self.run % plan.lanes
        taps = -(-self.taps // (plan.lanes // plan.step))
        self.tile = best_tile(plan.machine, job.size, plan.registers, max(taps, 1))

    def rows(self, group: Value) -> None:
        f, job, plan = self.f, self.job, self.plan
        height = -(-job.size[0] // plan.groups)
        height = min(-(-height // self.tile.rows) * self.tile.rows, job.size[0])
        begin = f.smaller(f.index("mul", group, height), job.size[0])
        end = f.smaller(f.index("add", begin, height), job.size[0])
        short = plan.channels % plan.step
        for first, blocks, width in balanced(plan.registers, self.tile.vectors):
            last = 1 if short and first + blocks * width == plan.registers else 0
            self._blocks((begin, end), (first, blocks - last, width), plan.step)
            self._blocks((begin, end), (first + (blocks - last) * width, last, width), short)

    def _blocks(self, rows: tuple[Value, Value], run: tuple[int, int, int], last: int) -> None:
        """A run of blocks (first register, blocks, registers in each) of output channels; `last`: those in the last register."""
        f, plan, job = self.f, self.plan, self.job
        first, blocks, width = run
        source, target = f.at(self.at.source, job.source), f.at(self.at.target, job.target)

        def block(register: Value, _: Sequence[str]) -> Sequence[str]:
            moved = f.index("mul", register, plan.step * plan.element.size)
            made = Block(
                source=source,
                target=f.at(target, moved),
                weights=f.at(self.weights, f.index("mul", register, job.weight_vector)),
                weight_vector=job.weight_vector,
                weight_row=self.weight_row,
                bias=f.at(self.at.bias, moved) if self.at.bias is not None else None,
                widths=[plan.step] * (width - 1) + [last],
            )
            self._strips(made, rows)
            return ()

        f.loop(first, first + blocks * width, block, step=width)

    def _strips(self, block: Block, rows: tuple[Value, Value]) -> None:
        """All taps, in strips."""
        f, plan, job = self.f, self.plan, self.job
        most = max(_STRIP_BYTES // (len(block.widths) * plan.step * plan.element.size), plan.lanes)
        if self.taps <= most * 3 // 2:
            self._tiles(block, rows, Strip((0, job.rows), (0, job.run), "true", "true", self.tail))
            return
        pieces = -(-self.run // most)
        length = -(-self.run // (pieces * plan.lanes)) * plan.lanes
        deep = min(max(most // self.run, 1), self.height)

        def strip(row: Value, _: Sequence[str]) -> Sequence[str]:
            row_end = f.smaller(f.index("add", row, deep), job.rows)

            def piece(begin: Value, _: Sequence[str]) -> Sequence[str]:
                end = f.smaller(f.index("add", begin, length), job.run)
                first = f.both(f.compare("eq", row, 0), f.compare("eq", begin, 0))
                last = f.both(f.compare("eq", row_end, job.rows), f.compare("eq", end, job.run))
                self._tiles(block, rows, Strip((row, row_end), (begin, end), first, last, self.tail))
                return ()

            f.loop(0, job.run, piece, step=length)
            return ()

        f.loop(0, job.rows, strip, step=deep)

    def _tiles(self, block: Block, rows: tuple[Value, Value], strip: Strip) -> None:
        """All pixels of the rows, tile by tile."""
        f, tile, plan, size = self.f, self.tile, self.plan, self.job.size
        begin, end = rows
        count = f.index("sub", end, begin)
        whole = f.index("add", begin, f.index("sub", count, f.index("urem", count, tile.rows)))
        parts = [(begin, whole, tile.rows)]
        if tile.rows > 1 and size[0] % tile.rows != 0:
            parts.append((whole, end, 1))
        for low, high, height in parts:

            def one_row(y: Value, _: Sequence[str], height: int = height) -> Sequence[str]:
                source = f.at(block.source, f.index("mul", y, plan.source_row))
                target = f.at(block.target, f.index("mul", y, plan.target_row))
                for first, tiles, width in balanced(size[1], tile.columns):

                    def one(x: Value, _: Sequence[str], shape: Pair = (height, width)) -> Sequence[str]:
                        at = f.at(source, f.index("mul", x, plan.source_pixel))
                        to = f.at(target, f.index("mul", x, plan.target_pixel))
                        self.sums.tile(replace(block, source=at, target=to), strip, shape)
                        return ()

                    f.loop(first, first + tiles * width, one, step=width)
                return ()

            f.loop(low, high, one_row, step=height)
