"""Windows that slide over images, and how convolutions are cut into tiles that fit the registers.

Sizes are TensorFlow's: SAME gives ceil(image / stride) windows with the odd zero behind, VALID no zeros, and pairs say how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from engine.native.emitter import Machine, balanced

Pair = tuple[int, int]
Padding = str | tuple[Pair, Pair]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Windows of `size`, every `stride`, over images of `image` with `pads` zeros around: `output` of them; all (rows, columns).

    pads: ((above, below), (left, right)).
    """

    image: Pair
    size: Pair
    stride: Pair
    pads: tuple[Pair, Pair]
    output: Pair

    @property
    def padded(self) -> Pair:
        (top, bottom), (left, right) = self.pads
        return self.image[0] + top + bottom, self.image[1] + left + right

    @property
    def is_padded(self) -> bool:
        return self.padded != self.image

    @property
    def overlaps(self) -> bool:
        """Whether a pixel may lie in several windows."""
        return self.size[0] > self.stride[0] or self.size[1] > self.stride[1]

    @property
    def is_covered(self) -> bool:
        """Whether every pixel lies in a window."""
        return all(
            size >= stride and (count - 1) * stride + size - before >= image
            for image, size, stride, (before, _), count in zip(
                self.image, self.size, self.stride, self.pads, self.output, strict=True
            )
        )


def geometry(
    image: Sequence[int], size: Sequence[int], strides: Sequence[int], padding: Padding
) -> Geometry | None:
    """None for windows that do not fit, or padding of another kind."""
    if min(*image, *size, *strides) < 1:
        return None
    pads, output = [], []
    for axis in (0, 1):
        if padding == "SAME":
            count = -(-image[axis] // strides[axis])
            missing = max((count - 1) * strides[axis] + size[axis] - image[axis], 0)
            pads.append((missing // 2, missing - missing // 2))
        elif padding == "VALID" or not isinstance(padding, str):
            pads.append((0, 0) if isinstance(padding, str) else padding[axis])
            count = (image[axis] + sum(pads[axis]) - size[axis]) // strides[axis] + 1
        else:
            return None
        if count < 1 or min(pads[axis]) < 0:
            return None
        output.append(count)
    return Geometry(
        (image[0], image[1]),
        (size[0], size[1]),
        (strides[0], strides[1]),
        (pads[0], pads[1]),
        (output[0], output[1]),
    )


class Remainder:
    """Those pixels along one dimension of a gradient for images that are `remainder` past a multiple of the stride.

    first: the first such pixel, `count` of them; taps: the filter's rows (or columns) that reach them, the last one first;
    before, after: how many gradients outside of the given ones are met, negative where some given ones are not.
    """

    def __init__(self, window: Geometry, axis: int, remainder: int) -> None:
        stride, size, before = window.stride[axis], window.size[axis], window.pads[axis][0]
        self.taps = tuple(reversed(range(remainder, size, stride)))
        self.first = (remainder - before) % stride
        self.count = len(range(self.first, window.image[axis], stride))
        begin = (self.first + before) // stride  # the window that begins nearest to it, at tap `remainder`
        reach = max(len(self.taps) - 1, 0)
        self.before = reach - begin
        self.after = begin + self.count - 1 - (window.output[axis] - 1)


def remainders(window: Geometry, axis: int) -> list[Remainder]:
    found = [Remainder(window, axis, remainder) for remainder in range(window.stride[axis])]
    return [each for each in found if each.count]


@dataclass(frozen=True, slots=True)
class Tile:
    """What is computed at once: `rows` × `columns` pixels by `vectors` of output channels, one register each."""

    rows: int
    columns: int
    vectors: int


def _cycles(pixels: int, vectors: int, taps: int) -> float:
    """About how long a tile takes for each tap: two multiply-adds, two loads, five instructions a cycle, a sum every four."""
    sums = pixels * vectors
    instructions = sums + pixels + vectors + 2
    return max(sums / 2, (pixels + vectors) / 2, instructions / 5, 4.0) + (2 * sums + 10) / taps


@lru_cache(maxsize=1024)
def best_tile(machine: Machine, size: Pair, vectors: int, taps: int) -> Tile:
    """The tile that computes `size` pixels of `vectors` vectors soonest; each needs `taps` multiply-adds.

    Sums, the vectors that they share, and one number that is multiplied with all of them are held in registers.
    """
    free = machine.registers - 1

    def cost(tile: Tile) -> float:
        total = 0.0
        for pixel_rows, row_tiles in _split(size[0], tile.rows):
            for _, column_tiles, columns in balanced(size[1], tile.columns):
                for _, blocks, width in balanced(vectors, tile.vectors):
                    total += row_tiles * column_tiles * blocks * _cycles(pixel_rows * columns, width, taps)
        return total

    candidates = [
        Tile(rows, columns, width)
        for rows, columns, width in product(
            range(1, min(size[0], free - 1) + 1),
            range(1, min(size[1], free - 1) + 1),
            range(1, min(vectors, 6) + 1),
        )
        if rows * columns * width + width <= free and (rows == 1 or columns == size[1])
    ]
    return min(candidates, key=cost)


def _split(total: int, size: int) -> list[Pair]:
    """(rows of a tile, number of such tiles): full ones, and single rows for what is left."""
    return [(size, total // size)] + ([(1, total % size)] if total % size else [])
