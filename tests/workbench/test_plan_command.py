"""``workbench plan``: the program of scripts and runs, its code, and what it says to bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.native import compiler
from workbench.cli import cli

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]
Write = Callable[..., Path]

SCRIPT = """
import sys
import engine as tf

print("noise on standard output")
x = tf.placeholder(tf.float32, [None, 8], name="x")
w = tf.Variable(tf.ones([8, 8]), name="w")
table = tf.constant([[float(i)] * 8 for i in range(200)], name="table")
h = tf.nn.relu(tf.matmul(x, w) + tf.zeros([8]), name="h")
_, total = tf.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * 0.5 + tf.reduce_sum(table)), [0, h])
y = tf.identity(total, name="y")
init = tf.global_variables_initializer()
with tf.Session(config=tf.ConfigProto(**({"plans": sys.argv[2]} if len(sys.argv) > 2 else {}))) as session:
    session.run(init)
    for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 2):
        print("ran", session.run(y, {x: [[1.0] * 8]}).shape)
"""


@pytest.fixture
def script(write_script: Write) -> Path:
    return write_script(SCRIPT)


@pytest.fixture
def workbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python_environment: dict[str, str]) -> Run:
    """The command, in an empty directory; what it asks a script runs in a process of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", python_environment["PYTHONPATH"])
    return lambda *arguments: CliRunner().invoke(cli, [*map(str, arguments)], prog_name="workbench")


def test_the_program_of_a_script(workbench: Run, script: Path, tmp_path: Path) -> None:
    done = workbench("plan", script)
    assert done.exit_code == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in done.stdout and "noise" not in done.stdout
    assert lines[0].startswith("script.py  what the script's first Session.run with a value fetches")
    assert "fetches  y:0" in lines and "fed      x:0" in lines
    assert any(line.startswith("host ") and line.endswith("plan: python") for line in lines)
    assert "1 loop" in done.stdout and "MatMul + AddV2 + Relu as one kernel" in done.stdout
    assert any("leave unless %" in line for line in lines)
    assert not list(tmp_path.glob("runs"))  # nothing was run, nothing recorded


def test_json_and_code(workbench: Run, script: Path) -> None:
    made = json.loads(workbench("plan", script, "--fetch", "h", "--json", "--code").stdout)
    assert made["fetches"] == ["h:0"] and made["feeds"] == ["x:0"] and made["chosen"] == "what --fetch names"
    assert [line["text"].partition(" = ")[0] for line in made["lines"]] == [
        "%0",
        "%1",
        "%2",
        "%3",
        "return h:0",
    ]
    (fused,) = made["fused"]
    assert (
        fused["node"] == "h"
        and fused["file"].endswith("script.py")
        and fused["source"].startswith("h = tf.nn")
    )
    assert made["code"].startswith("def plan(") and made["note"].startswith("the first run is interpreted")
    compile(made["code"], "plan", "exec")


def test_a_recorded_run_gives_the_same_program_with_times(
    workbench: Run, script: Path, run_python: Callable[..., Any], tmp_path: Path
) -> None:
    assert run_python("-m", "workbench", "run", script, "3", cwd=tmp_path).returncode == 0
    asked = json.loads(workbench("plan", script, "--json", "--code").stdout)
    recorded = json.loads(workbench("plan", "latest", "--json", "--code").stdout)
    assert recorded["chosen"] == "what 3 of 4 recorded steps ran" and recorded["step"] == 4
    for each in recorded["lines"]:
        each.pop("runs")
        each.pop("total_ns")
    assert recorded["lines"] == asked["lines"] and recorded["values"] == asked["values"]
    # Also with large constants, of which the run keeps no value; the tests' own process checks every kernel.
    code = [line for line in recorded["code"].splitlines() if "checker(" not in line]
    assert code == asked["code"].splitlines()
    assert workbench("plan", "latest", "--code").stdout.rstrip() == recorded["code"].rstrip()
    text = workbench("plan", "latest").stdout
    assert "times are those of step 4" in text
    (product,) = (line for line in text.splitlines() if "MatMul+" in line)
    assert product.endswith(("µs", "ms", "ns"))
    wrong = workbench("plan", "latest", "--fetch", "h")
    assert wrong.exit_code == 2 and "no step of the run fetches 'h'" in wrong.stderr


def test_where_the_interpreter_runs(workbench: Run, script: Path, write_script: Write) -> None:
    done = workbench("plan", script, "--", "2", "off")
    assert (
        done.exit_code == 0 and "interpreter" in done.stdout and "ConfigProto.plans is 'off'" in done.stdout
    )
    code = workbench("plan", script, "--code", "--", "2", "off")
    assert code.exit_code == 2 and code.stdout == ""
    assert code.stderr.startswith(
        "workbench: there is no code, since the interpreter runs this: ConfigProto.plans"
    )
    two = write_script(
        "import engine as tf\n"
        "with tf.device('/GPU:0'):\n"
        "    y = tf.tanh(tf.placeholder(tf.float32, [2], name='x'), name='y')\n"
        "options = tf.GPUOptions(modelled=True)\n"
        "tf.Session(config=tf.ConfigProto(device_count={'GPU': 1}, gpu_options=options)).run(y, {'x:0': [1, 2]})\n",
        "two.py",
    )
    made = json.loads(workbench("plan", two, "--json").stdout)
    assert [each["device"][-5:] for each in made["partitions"]] == ["CPU:0", "GPU:0"]
    assert all(each["executor"] == "interpreter" and "GPU:0" in each["reason"] for each in made["partitions"])


def test_bad_questions(workbench: Run, script: Path) -> None:
    for arguments, says in (
        (["--fetch", "yy"], "--fetch yy: there is no node 'yy' in the graph; did you mean 'y'"),
        (["--fetch", "y", "--feed", "init"], "'init' has no output, so there is nothing to feed"),
    ):
        done = workbench("plan", script, *arguments)
        assert done.exit_code == 2 and done.stdout == ""
        assert says in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr


def test_the_page_on_plans_shows_what_is_printed(workbench: Run, tmp_path: Path) -> None:
    if not compiler.available():
        pytest.skip("the page shows machine code")
    page = (ROOT / "docs" / "plans.md").read_text(encoding="utf-8")
    for name, program in zip(
        ("decay.py", "two.py"), re.findall(r"```python\n(.*?)```", page, re.S), strict=True
    ):
        (tmp_path / name).write_text(program, encoding="utf-8")
    blocks = re.findall(r"```text\n\$ workbench (plan [^\n]*)\n(.*?)```", page, re.S)
    assert len(blocks) == 2
    for command, shown in blocks:
        done = workbench(*command.split())
        assert done.exit_code == 0
        assert [line.rstrip() for line in done.stdout.strip().splitlines()] == shown.strip().splitlines()


def test_scripts_that_give_no_answer(workbench: Run) -> None:
    assert workbench("plan", "nowhere.py").stderr == "workbench: there is no script nowhere.py\n"
    done = workbench("plan", "no-such-run")
    assert done.exit_code == 2 and "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2
