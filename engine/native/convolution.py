"""Convolution of NHWC images with HWIO filters, and its two gradients, as native kernels.

What they compute is `tf.nn.conv2d`: images [n, h, w, c] and filters [kh, kw, c, k] give [n, oh, ow, k], in float32 or float64.

Sums are added in another order than BLAS's, and where the processor can do so, products are not rounded before they are added.
A result that is a sum of n products lies within n/2 units in the last place *of the sum of the products' magnitudes* of the exact
one, as NumPy's does, so that the two are at most n such units apart (`NativeKernel.ulps`); √n is what one meets.  Each result
is added up in one order, whatever the chunks are: all runs give the same bits.

The gradient for the input multiplies the zeros around the gradients with filters, too: infinite or NaN filters reach a border
of pixels that they do not reach in NumPy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.native.conv_filter import filter_gradient
from engine.native.conv_forward import Job, Operands, convolve, groups_of
from engine.native.conv_geometry import Geometry, Padding, geometry, remainders
from engine.native.conv_layout import Frame, Taps, pack, pack_flipped, pack_transposed
from engine.native.conv_sums import Plan
from engine.native.emitter import (
    SLACK,
    Element,
    Function,
    Machine,
    Value,
    build,
    element_of,
    this_machine,
)
from engine.native.kernel import NativeKernel, Phase

__all__ = ["conv2d", "conv2d_backprop_filter", "conv2d_backprop_input"]

_DIRECT_BYTES = 128  # filters whose taps are no longer are read where they are: longer ones would share few lines of the cache
_PADDED_BYTES = 256 << 10  # of padded rows that are worth another thread
_WORTH = 400_000  # multiply-adds that are worth another thread


def conv2d(
    input_shape: Sequence[int],
    filter_shape: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    *,
    bias: bool = False,
    relu: bool = False,
    dilations: Sequence[int] = (1, 1),
    machine: Machine | None = None,
) -> NativeKernel | None:
    """(images, filters[, bias]) → relu(convolution + bias), or without one or both.

    input_shape: [n, h, w, c]; filter_shape: [kh, kw, c, k]; bias: [k]; strides, dilations: (rows, columns).  padding: "SAME",
    "VALID" or ((above, below), (left, right)).  machine: what to cut tiles for (this one).  None for what is not
    done here: other dtypes, dilations, groups, empty images or filters.  Raises UnavailableError without a native compiler.
    """
    found = _checked(input_shape, filter_shape, strides, padding, dtype, dilations)
    if found is None:
        return None
    element, window = found
    machine = machine or this_machine()
    images, window, channels = _merged(input_shape[0], window, input_shape[3])
    outputs = filter_shape[3]
    size, lanes = element.size, machine.lanes(element)
    run = window.size[1] * channels
    taps = window.size[0] * run
    taps_in_lanes = _few_channels(outputs, lanes, taps, [run])
    step = 1 if taps_in_lanes else lanes
    registers = -(-outputs // step)
    is_direct = outputs == 1 or (
        outputs % step == 0 and not taps_in_lanes and outputs * size <= _DIRECT_BYTES
    )
    frame = Frame(window.image, window.pads, channels * size)
    weight_tap, weight_vector = (outputs, step) if is_direct else (step, taps * step)
    job = Job(window.output, window.size[0], run, 0, 0, 0, weight_vector * size)
    plan = Plan(
        element=element,
        machine=machine,
        channels=outputs,
        lanes=lanes,
        taps_in_lanes=taps_in_lanes,
        groups=groups_of(window.output[0], window.stride[0] * frame.row, images),
        relu=relu,
        source_pixel=window.stride[1] * frame.pixel,
        source_row=window.stride[0] * frame.row,
        source_tap_row=frame.row,
        target_pixel=outputs * size,
        target_row=window.output[1] * outputs * size,
        weight_tap=weight_tap * size,
    )
    layout = _Layout(plan, frame, images, 3 if bias else 2)
    if not is_direct:
        if taps_in_lanes:
            packing = pack_transposed("pack", element, taps, outputs)
        else:
            packing = pack("pack", element, lanes, taps, outputs)
        layout.packed(packing, registers, registers * taps * step * size)
    work = window.output[0] * window.output[1] * taps * outputs
    image_bytes = window.output[0] * plan.target_row
    return layout.kernel("conv2d", [job], image_bytes, work, (0, 1, 2 if bias else None))


def conv2d_backprop_input(
    input_shape: Sequence[int],
    filter_shape: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    *,
    dilations: Sequence[int] = (1, 1),
    machine: Machine | None = None,
) -> NativeKernel | None:
    """(filters, gradients [n, oh, ow, k]) → the gradient for images of `input_shape`; arguments as for `conv2d`."""
    found = _checked(input_shape, filter_shape, strides, padding, dtype, dilations)
    if found is None:
        return None
    element, window = found
    machine = machine or this_machine()
    images, window, channels = _merged(input_shape[0], window, input_shape[3])
    outputs = filter_shape[3]
    size, lanes = element.size, machine.lanes(element)
    rows = remainders(window, 0)
    columns = remainders(window, 1)
    before = [max(0, *(part.before for part in parts)) for parts in (rows, columns)]
    after = [max(0, *(part.after for part in parts)) for parts in (rows, columns)]
    frame = Frame(window.output, ((before[0], after[0]), (before[1], after[1])), outputs * size)
    all_taps = window.size[0] * window.size[1] * outputs
    runs = [len(part.taps) * outputs for part in columns]
    taps_in_lanes = _few_channels(channels, lanes, all_taps // (len(rows) * len(columns)), runs)
    step = 1 if taps_in_lanes else lanes
    registers = -(-channels // step)
    jobs, parts, offset = [], [], 0
    for row in rows:
        for column in columns:
            taps = len(row.taps) * len(column.taps) * outputs
            down, across = before[0] - row.before, before[1] - column.before
            jobs.append(
                Job(
                    size=(row.count, column.count),
                    rows=len(row.taps) if taps else 0,
                    run=len(column.taps) * outputs if taps else 0,
                    source=down * frame.row + across * frame.pixel if taps else 0,
                    target=(row.first * window.image[1] + column.first) * channels * size,
                    weights=offset,
                    weight_vector=taps * step * size,
                )
            )
            if taps:
                parts.append(Taps(row.taps, column.taps, offset))
            offset += registers * taps * step * size
    plan = Plan(
        element=element,
        machine=machine,
        channels=channels,
        lanes=lanes,
        taps_in_lanes=taps_in_lanes,
        groups=groups_of(max(part.count for part in rows), frame.row, images),
        relu=False,
        source_pixel=frame.pixel,
        source_row=frame.row,
        source_tap_row=frame.row,
        target_pixel=window.stride[1] * channels * size,
        target_row=window.stride[0] * window.image[1] * channels * size,
        weight_tap=step * size,
    )
    layout = _Layout(plan, frame, images, 2)
    shape = (*window.size, channels, outputs)
    layout.packed(pack_flipped("pack", element, step, shape, parts, window.stride), registers, offset)
    work = window.output[0] * window.output[1] * all_taps * channels
    image_bytes = window.image[0] * window.image[1] * channels * size
    return layout.kernel("conv2d_backprop_input", jobs, image_bytes, work, (1, 0, None))


def conv2d_backprop_filter(
    input_shape: Sequence[int],
    filter_shape: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    *,
    dilations: Sequence[int] = (1, 1),
    machine: Machine | None = None,
) -> NativeKernel | None:
    """(images, gradients [n, oh, ow, k]) → the gradient for filters of `filter_shape`; arguments as for `conv2d`."""
    found = _checked(input_shape, filter_shape, strides, padding, dtype, dilations)
    if found is None:
        return None
    images, window, channels = _merged(input_shape[0], found[1], input_shape[3])
    return filter_gradient(images, window, channels, filter_shape[3], found[0], machine or this_machine())


def _checked(
    images: Sequence[int],
    filters: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dtype: Any,
    dilations: Sequence[int],
) -> tuple[Element, Geometry] | None:
    element = element_of(dtype)
    if (
        element is None
        or tuple(dilations) != (1, 1)
        or images[3] != filters[2]
        or min(*filters, images[3]) < 1
    ):
        return None
    window = geometry(images[1:3], filters[:2], strides, padding)
    return None if window is None else (element, window)


def _merged(images: int, window: Geometry, channels: int) -> tuple[int, Geometry, int]:
    """Images, windows and channels: all images as one, if their pixels have nothing to do with each other.

    That is so where each window is one pixel, and where the only window is the image, which is then one pixel itself.
    """
    if window.is_padded:
        return images, window, channels
    height, width = window.image
    if window.size == window.image:
        whole, channels = (max(images, 1), 1), channels * height * width
    elif window.size == (1, 1) and window.stride == (1, 1):
        whole = (max(images, 1) * height, width)
    else:
        return images, window, channels
    return min(images, 1), Geometry(whole, (1, 1), (1, 1), ((0, 0), (0, 0)), whole), channels


def _few_channels(channels: int, lanes: int, taps: int, runs: Sequence[int]) -> bool:
    """Whether lanes are better used for taps, `taps` a result in rows of `runs`, than for so few output channels."""
    if min(runs) < lanes or len({run % lanes for run in runs}) > 1:
        return False
    # With channels in lanes, every product needs two loads; with taps, the lanes have to be added up in the end.
    return channels * (taps + 8 * lanes) < -(-channels // lanes) * lanes * taps / 2


class _Layout:
    """The phases before the convolution, and which arguments there are."""

    def __init__(self, plan: Plan, frame: Frame, images: int, inputs: int) -> None:
        self.plan, self.frame, self.images, self.inputs = plan, frame, images, inputs
        self.scratch: list[int] = []
        self.packing: tuple[Function, int, int] | None = None  # and units, and the argument

    def _scratch(self, size: int) -> int:
        self.scratch.append(size)
        return self.inputs + len(self.scratch)

    def packed(self, function: Function, units: int, size: int) -> None:
        self.packing = function, units, self._scratch(size + SLACK)

    def kernel(
        self,
        name: str,
        jobs: Sequence[Job],
        image_bytes: int,
        work: int,
        operands: tuple[int, int, int | None],
    ) -> NativeKernel:
        """operands: which inputs are images, filters, bias; work: multiply-adds an image; image_bytes: of a result."""
        frame, groups = self.frame, self.plan.groups
        source, filters, bias = operands
        phases: list[tuple[Function, int, tuple[int, ...], int]] = []
        weights = filters
        if self.packing is not None:
            function, units, weights = self.packing
            phases.append((function, units, (filters, weights), 1))
        padded = None if frame.is_plain else self._scratch(frame.scratch(self.images))
        fuses = padded is not None and groups == 1
        if padded is not None and not fuses:
            rows = max(1, _PADDED_BYTES // frame.row)
            phases.append((frame.function("pad"), self.images * frame.rows, (source, padded), rows))
        arguments = [source if padded is None or fuses else padded, weights, self.inputs]
        arguments += [each for each in (bias, padded if fuses else None) if each is not None]

        f = Function("convolve", len(arguments))
        weights_at = f.args[1] if self.packing is None else f.aligned(f.args[1])
        bias_at = None if bias is None else f.args[3]
        images_at = f.args[0] if padded is None or fuses else f.aligned(f.args[0])
        padded_at = f.aligned(f.args[-1]) if fuses else images_at

        def unit(i: Value, _: Sequence[str]) -> Sequence[str]:
            image, group = f.index("udiv", i, groups), f.index("urem", i, groups) if groups > 1 else 0
            read = f.at(padded_at, f.index("mul", image, frame.bytes))
            if fuses:
                plain = frame.image[0] * frame.image[1] * frame.pixel
                frame.write(f, f.at(images_at, f.index("mul", image, plain)), read)
            target = f.at(f.args[2], f.index("mul", image, image_bytes))
            convolve(f, self.plan, jobs, Operands(read, target, weights_at, bias_at), group)
            return ()

        f.loop("%begin", "%end", unit)
        grain = max(1, _WORTH * groups // max(work, 1))
        phases.append((f, self.images * groups, tuple(arguments), grain))
        library = build([function for function, _, _, _ in phases])
        taps = max(
            job.rows * job.run for job in jobs if isinstance(job.rows, int) and isinstance(job.run, int)
        )
        return NativeKernel(
            name=name,
            phases=tuple(
                Phase(library.address(function.name), extent, args, grain)
                for function, extent, args, grain in phases
            ),
            inputs=self.inputs,
            outputs=1,
            scratch=tuple(self.scratch),
            ulps=float(taps),
            keep=library,
        )
