"""What it costs to watch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cases import Prepared, case
from cases.dense import mlp
from cases.small_ops import FED, chain


@contextmanager
def recording() -> Iterator[None]:
    """Everything that the engine does is recorded at level times, to files that go away."""
    import tracing

    with tempfile.TemporaryDirectory() as folder, tracing.record(folder, level="times", name="benchmark"):
        yield


def _full_trace(tf: Any) -> Callable[[], Any]:
    made, x, y = chain(tf)
    new = getattr(tf, "RunMetadata", None)
    if new is None:
        from tensorboard.compat.proto.config_pb2 import RunMetadata

        new = RunMetadata
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    return lambda: made.run(y, {x: FED}, options=options, run_metadata=new())


@case("the chain of 1,000 with times recorded (TensorFlow: FULL_TRACE)", target=0.05)
def chain_traced(tf: Any) -> Prepared | Callable[[], Any]:
    """What each library has for the same knowledge, when each node ran: ours writes a run directory, TensorFlow a message."""
    if "tensorflow" in tf.__name__:
        return _full_trace(tf)
    made, x, y = chain(tf)
    return Prepared(lambda: made.run(y, {x: FED}), around=recording)


@case("the chain of 1,000 with FULL_TRACE in both")
def chain_full_trace(tf: Any) -> Callable[[], Any]:
    """The same program in both; ours fills the same message, from the interpreter."""
    return _full_trace(tf)


@case(
    "the MLP's step, batch 128, recorded at level times (against ours without)",
    target=1.1,
    checks=3,
    against="mlp_adam_128",
)
def mlp_times(tf: Any) -> Prepared:
    """Ours against ours: what the recorder adds."""
    return Prepared(mlp(128).tensorflow(tf), around=recording)
