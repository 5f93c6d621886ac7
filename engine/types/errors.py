"""The errors a running graph raises: TensorFlow's tree and codes, with the op, the line that made it, and a hint.

Kernels raise them with a message alone (``InvalidArgumentError(None, None, "…")``); whoever runs the kernel calls `attach`, and
the text then says what went wrong, in which op, where that was made, and what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.types.site import Frame

OK = 0
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
ABORTED = 10
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16


class OpError(Exception):
    """An error in running an op.

    message: what went wrong, bare.
    op: the Operation (or node of a stage) in which it did, or None; `node_def`: the same as a NodeDef, or None.
    error_code: the number of the code, as in TensorFlow.
    site: the `Site` that made the op, or the innermost `Frame` of it, or None.
    hint: what to do about it, or None.

    `str()` puts them together for a person.
    """

    code = UNKNOWN

    def __init__(
        self, node_def: Any, op: Any, message: str, error_code: int | None = None, *, hint: str | None = None
    ) -> None:
        super().__init__(node_def, op, message)
        self._node_def = node_def
        self.op = op
        self.message = message
        self.error_code = self.code if error_code is None else error_code
        self.hint = hint
        self.site: Any = getattr(op, "site", None)

    @property
    def node_def(self) -> Any:
        """The op's NodeDef, if it is known."""
        return self._node_def if self._node_def is not None else getattr(self.op, "node_def", None)

    def attach(self, op: Any, *, hint: str | None = None) -> OpError:
        """Say in which op (an Operation, or a stage's node) this happened, unless that is known already; returns self."""
        if self.op is None:
            self.op = op
        if self.site is None:
            self.site = getattr(op, "site", None)
        if self.hint is None:
            self.hint = hint
        return self

    @property
    def frame(self) -> Frame | None:
        """The user's stack frame that made the op, or None."""
        frame: Frame | None = getattr(self.site, "user", self.site)
        return frame

    def __str__(self) -> str:
        lines = [self.message]
        named = self.op if self.op is not None else self._node_def
        if named is not None:
            op_type = getattr(named, "type", None) or getattr(named, "op", None)
            lines.append(f"  in op '{named.name}'" + (f" (type {op_type})" if op_type else ""))
        frame = self.frame
        if frame is not None:
            function = "" if frame.function == "<module>" else f", in {frame.function}"
            lines.append(f"  made at {frame.file}:{frame.line}{function}")
            if frame.source:
                lines.append(f"    {frame.source}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # An op does not travel between processes; what is said about it does.
        return _restore, (type(self), str(self), self.error_code)


def _restore(kind: type[OpError], message: str, code: int) -> OpError:
    error = kind.__new__(kind)
    OpError.__init__(error, None, None, message, code)
    return error


class _CodedError(OpError):
    """An OpError whose class says the code."""

    def __init__(self, node_def: Any, op: Any, message: str, *, hint: str | None = None) -> None:
        super().__init__(node_def, op, message, hint=hint)


class CancelledError(_CodedError):
    """The operation or step was cancelled."""

    code = CANCELLED


class UnknownError(_CodedError):
    """Something failed that has no better code, such as user code run by `py_func`."""

    code = UNKNOWN


class InvalidArgumentError(_CodedError):
    """An op was given a value or a shape that it cannot work with."""

    code = INVALID_ARGUMENT


class DeadlineExceededError(_CodedError):
    """The time allowed ran out."""

    code = DEADLINE_EXCEEDED


class NotFoundError(_CodedError):
    """A named thing (a resource, a file) does not exist."""

    code = NOT_FOUND


class AlreadyExistsError(_CodedError):
    """A named thing exists already."""

    code = ALREADY_EXISTS


class PermissionDeniedError(_CodedError):
    """The caller may not do that."""

    code = PERMISSION_DENIED


class UnauthenticatedError(_CodedError):
    """The caller is not known."""

    code = UNAUTHENTICATED


class ResourceExhaustedError(_CodedError):
    """Memory, or another resource, ran out."""

    code = RESOURCE_EXHAUSTED


class FailedPreconditionError(_CodedError):
    """The state does not allow it, such as reading a variable that has no value yet."""

    code = FAILED_PRECONDITION


class AbortedError(_CodedError):
    """The operation was given up, mostly for running beside another."""

    code = ABORTED


class OutOfRangeError(_CodedError):
    """Past the end, as of a queue that is closed and empty."""

    code = OUT_OF_RANGE


class UnimplementedError(_CodedError):
    """The op does not do this (on this device, or for these dtypes)."""

    code = UNIMPLEMENTED


class InternalError(_CodedError):
    """The engine broke one of its own rules."""

    code = INTERNAL


class UnavailableError(_CodedError):
    """A worker or service cannot be reached now."""

    code = UNAVAILABLE


class DataLossError(_CodedError):
    """Stored data is lost or corrupt."""

    code = DATA_LOSS


_by_code: dict[int, type[_CodedError]] = {kind.code: kind for kind in _CodedError.__subclasses__()}


def exception_type_from_error_code(error_code: int) -> type[OpError]:
    """The class of errors with that code.  Raises KeyError if there is none."""
    return _by_code[error_code]


def error_code_from_exception_type(kind: type[OpError]) -> int:
    """The code of that class of errors; UNKNOWN for `OpError` itself."""
    return kind.code
