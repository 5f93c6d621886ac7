"""What every natively compiled kernel looks like to those who call it: a chain of functions over chunks of one extent.

All functions have one C signature::

    void f(void **args, int64_t begin, int64_t end)

`args` points to the first element of each argument; the function works on ``[begin, end)`` of its extent (rows, images,
elements), and may be called for disjoint chunks on several threads at once.  Shapes are compiled in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Phase:
    """One function, called for chunks of ``[0, extent)``; all of it ends before the next phase begins.

    args: which of the kernel's arguments (inputs, then outputs, then scratch buffers) it is given, in order.
    grain: the least number of units of `extent` that are worth handing to another thread.
    """

    address: int
    extent: int
    args: tuple[int, ...]
    grain: int = 1


@dataclass(frozen=True, slots=True)
class NativeKernel:
    """A kernel for given shapes and dtypes.

    Its arguments are C-contiguous, aligned buffers: `inputs` of them, then `outputs`, then one of each size in `scratch` (bytes,
    not initialized).  `overwrites` maps an output to the inputs that may share its buffer.  `ulps` is how far a result may be
    from the NumPy kernel's, in units in the last place (0: bit for bit).  `keep` holds on to the machine code.
    """

    name: str
    phases: tuple[Phase, ...]
    inputs: int
    outputs: int
    scratch: tuple[int, ...] = ()
    overwrites: dict[int, tuple[int, ...]] = field(default_factory=dict)
    ulps: float = 0
    keep: Any = None

    @property
    def arguments(self) -> int:
        return self.inputs + self.outputs + len(self.scratch)
