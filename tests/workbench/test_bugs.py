"""Programs with a mistake: each does the wrong thing that it says, and its session of commands finds out why."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUGS = ROOT / "workbench" / "examples" / "bugs"

# What goes wrong when it runs by itself, and what the session must come upon, in this order.
FOUND: dict[str, tuple[str, tuple[str, ...]]] = {
    "broken_pass": (
        "10 - 3 = -7.0",
        ("next  result", "t2 = Sub(t1, t0)", "result:0  float32[] -7.0"),
    ),
    "dead_merge": (
        "the fetched tensor 'either:0' is dead",
        ("either is dead in root", "killed by   keep_positive", "positive:0 was False"),
    ),
    "exploding": (
        "loss nan",
        ("stop  breakpoint 1 after loss", "layer0/out (MatMul)", "the variable 'layer0/weights'"),
    ),
    "leaking_loop": (
        "the last is the last: True",
        ("stop  breakpoint 1 after smooth/history", "float32[506, 512]", "float32[511, 512]"),
    ),
    "nan_in_a_loop": (
        "finite: False",
        (
            "stop  breakpoint 1 after gradients/sum/mul_grad/Mul",
            "* gradients/sum/log_grad/Reciprocal (Reciprocal) made",
            "it is part of the gradient of sum/log",
            "kept of sum/mul in root > sum:3",
        ),
    ),
    "queue_never_fills": (
        "DeadlineExceededError",
        (
            "stop  nothing is ready; 'batch' in root@0 waits for 8 elements in FIFOQueue 'examples', which holds 4",
            "and nothing else in this step changes it",
            "<FIFOQueue examples: 4 of 32>",
        ),
    ),
    "stale_read": (
        "paid in 10.0 report 100.0",
        ("1 race", "balance/read reads and pay_in adds to the variable 'balance'", "the results differ"),
    ),
    "two_partitions": (
        "DeadlineExceededError",
        (
            "stop  nothing is ready; 2 waiting to receive",
            "waits for 1 element in FIFOQueue 'to_left'",
            "a deadlock",
        ),
    ),
    "uninitialized": (
        "Attempting to use uninitialized value count",
        (
            "stop  error in new_count",
            "it was not initialized",
            "no fetch or target needs it",
        ),
    ),
    "unordered_assigns": (
        "expected: 2047",
        (
            "counter/read reads and increment adds to the variable 'counter'",
            "the results differ",
            "3 outcomes of all 3 schedules",
            "the smallest difference: increment before double, or double before increment",
        ),
    ),
    "wrong_branch": (
        "loss 2.0 rate 0.25",
        (
            "at choose/Switch",
            "* assign by remember (Assign): float32[] inf → float32[] 3.0",
            "read by worse/read",
            "worse:0  bool[] True",
        ),
    ),
    "wrong_broadcast": (
        "expected: 2.0",
        ("→ float32[32, 32]", "stop  breakpoint 1 after", "part of 'gradients/Square_grad/Mul_1'"),
    ),
}


@functools.cache
def workbench(name: str) -> str:
    """What the session prints."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "workbench",
            "step",
            "--script",
            BUGS / f"{name}.commands",
            BUGS / f"{name}.py",
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )
    assert "\n! " not in done.stdout, done.stdout  # every command could be carried out
    return done.stdout


def test_all_are_there() -> None:
    scripts = {path.stem for path in BUGS.glob("*.py")} - {"__init__"}
    assert scripts == set(FOUND) == {path.stem for path in BUGS.glob("*.commands")}


@pytest.mark.parametrize("name", FOUND)
def test_the_session_finds_it(name: str) -> None:
    said, at = workbench(name), 0
    for text in FOUND[name][1]:
        found = said.find(text, at)
        assert found >= 0, f"{text!r} is not in what follows:\n{said[at:]}"
        at = found


@pytest.mark.parametrize("name", FOUND)
def test_it_goes_wrong(name: str) -> None:
    done = subprocess.run(
        [sys.executable, BUGS / f"{name}.py"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )
    assert FOUND[name][0] in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["nan_in_a_loop", "unordered_assigns", "wrong_broadcast"])
def test_what_the_page_on_debugging_shows_is_what_is_printed(name: str) -> None:
    """Every line of the blocks in the section on the program is the beginning of one that the session prints."""
    page = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8")
    section = next(part for part in page.split("\n## ") if f"bugs/{name}.py)" in part)
    shown = [line for block in re.findall(r"```text\n(.*?)```", section, re.S) for line in block.splitlines()]
    printed = workbench(name).splitlines()
    assert len([line for line in shown if line.strip()]) >= 4
    for line in shown:
        assert any(each.startswith(line.rstrip()) for each in printed), line
