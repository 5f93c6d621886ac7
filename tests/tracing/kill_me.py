"""Writes steps until it is killed, and prints the id of each after it was recorded.  Run by test_killed.py.

Arguments: the log directory, and the number of executions of a step.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

specification = importlib.util.spec_from_file_location("synthetic", Path(__file__).with_name("conftest.py"))
assert specification is not None and specification.loader is not None
conftest = importlib.util.module_from_spec(specification)
sys.modules["synthetic"] = conftest
specification.loader.exec_module(conftest)

import tracing  # noqa: E402

recorder = tracing.start(sys.argv[1], "full", "victim")
stage = conftest.small_stage()
print(recorder.path, flush=True)
step = 0
while True:
    step += 1
    info = conftest.run_step(recorder, stage, step, int(sys.argv[2]))
    tracing.scalar("loss", 1 / step, step)
    print(info.id, flush=True)
