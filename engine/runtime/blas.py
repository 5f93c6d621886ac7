"""`intra_op_parallelism_threads`: how many threads one kernel may use.

Only the BLAS behind NumPy's matrix products has threads of its own.  threadpoolctl, which scikit-learn uses for this, knows how
to tell each BLAS; their setting is the process's, so that while a step with a limit runs, the limit holds for all.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any


@functools.cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def limited(threads: int) -> contextlib.AbstractContextManager[Any]:
    """Inside of the block BLAS uses at most so many threads; 0 is no limit."""
    if threads <= 0:
        return contextlib.nullcontext()
    return _controller().limit(limits=threads, user_api="blas")  # type: ignore[no-any-return]
