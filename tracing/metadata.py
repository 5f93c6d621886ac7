"""RunMetadata of a recorded step."""

from __future__ import annotations

from typing import Any

from engine.runtime.metadata import run_metadata
from tracing.reader import Run


def step_metadata(run: Run, step_id: int) -> Any:
    """The RunMetadata message of a recorded step, as TensorFlow would have filled it.

    What was changed by hand is there as records of no duration.  Outputs and bytes are there if the run was recorded at level
    VALUES or above.  Raises RunError if the run has no such step or is damaged.
    """
    step = run.step(step_id)
    return run_metadata(
        run.stage(step.stage_id),
        [batch for found in run.partitions(step_id).values() for batch in found],
        [run.health(step_id)],
        run.overrides(step_id),
        started_ns=step.started_ns,
        started_unix_ns=step.started_unix_ns,
        modelled={state.name for state in run.devices(step_id) if state.modelled},
    )
