"""What kernels raise, in the words of TensorFlow's errors; and whether they gave what their ops promise."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.op.fused_program import StepFailed
from engine.passes.stage import StageNode
from engine.runtime.frames import DEAD
from engine.types import errors
from engine.types.site import Site

_ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
PLAN = "<plan "  # how the file names of code that plans write begin
_CODES: tuple[tuple[type[BaseException], type[errors.OpError]], ...] = (
    (NotImplementedError, errors.UnimplementedError),
    (MemoryError, errors.ResourceExhaustedError),
    (ValueError, errors.InvalidArgumentError),
    (TypeError, errors.InvalidArgumentError),
    (IndexError, errors.InvalidArgumentError),
    (StopIteration, errors.OutOfRangeError),
)


def about_shapes(error: Exception) -> Exception:
    """What NumPy says of operands that do not fit, in TensorFlow's words; other errors as they are."""
    text = str(error)
    if not isinstance(error, ValueError) or "could not be broadcast together" not in text:
        return error
    shapes = [f"[{shape.rstrip(',')}]" for shape in re.findall(r"\(([\d,]*)\)", text)]
    return errors.InvalidArgumentError(None, None, f"Incompatible shapes: {' vs. '.join(shapes)}")


class FusedNode(NamedTuple):
    """A node that a fused one stands for."""

    name: str
    type: str
    site: Site | None


def in_fused(error: Exception, node: Any) -> tuple[Exception, Any]:
    """What a kernel raised and in which node: of a fused one, the node that the step which failed stands for."""
    if not isinstance(error, StepFailed):
        return error, node
    return error.cause, FusedNode(error.name or node.name, error.type, node.site)


def explain(error: Exception, node: StageNode | FusedNode) -> errors.OpError:
    """What a kernel raised, as an OpError attached to its node."""
    if isinstance(error, errors.OpError):
        error.attach(node)
        return error
    kind = next((coded for known, coded in _CODES if isinstance(error, known)), errors.UnknownError)
    explained = kind(None, None, f"{type(error).__name__}: {error}")
    explained.attach(node)
    return explained


def let_go(error: BaseException) -> None:
    """Empty those of the engine's own frames in the traceback of an error that are over.

    They hold the step with all of its arrays, and the error may be kept for long; it may even be in one of them, a cycle.
    """
    traceback = error.__traceback__
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
        if frame.f_code.co_filename.startswith((_ENGINE, PLAN)):
            with contextlib.suppress(RuntimeError):  # it is still running
                frame.clear()


def check_outputs(node: StageNode, outputs: Sequence[Any]) -> None:
    """Raise InternalError if a kernel broke its op's promises: number of outputs, dtypes, static shapes.

    Install as `engine.runtime.step.checker` to have it around every kernel; the tests do.
    """
    problem = ""
    if len(outputs) != len(node.output_dtypes):
        problem = f"gave {len(outputs)} outputs, not {len(node.output_dtypes)}"
    for i, (value, dtype, shape) in enumerate(
        zip(outputs, node.output_dtypes, node.output_shapes, strict=False)
    ):
        if value is DEAD or (
            getattr(value, "dtype", None) == dtype.np_dtype and shape.dims_or_none in (None, value.shape)
        ):
            continue
        # A shape that is known in part, a resource, or a mistake.
        if dtype._is_ref_dtype or dtype.name in ("resource", "variant"):
            continue
        if not hasattr(value, "dtype"):
            problem = f"gave a {type(value).__name__} as output {i}, not an array"
        elif value.dtype != dtype.np_dtype:
            problem = f"gave dtype {value.dtype} as output {i}, not {dtype.name}"
        elif not shape.is_compatible_with(value.shape):
            problem = (
                f"gave shape {list(value.shape)} as output {i}, which contradicts the static shape {shape}"
            )
    if problem:
        error = errors.InternalError(None, None, f"The kernel of {node.type} {problem}")
        error.attach(node)
        raise error
