"""What the documents say is so: links lead somewhere, files that are named exist, programs run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import engine as tf
from engine import observe
from engine.observe import TraceLevel
from workbench.cli import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def programs(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:engine|tracing|viz|workbench|tests|benchmarks|docs)/[\w./]*)`", text))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def modules_named(page: Path) -> set[str]:
    """``engine.runtime.state.ExecutorState``: the modules and what is in them."""
    return set(re.findall(r"`((?:engine|tracing|viz)(?:\.\w+)+)`", page.read_text(encoding="utf-8")))


@cache
def unresolved() -> dict[str, str]:
    """The names on all pages that lead nowhere, and what a fresh interpreter says of each: one for all of them."""
    code = """
import json, pkgutil, sys
wrong = {}
for name in sys.argv[1:]:
    try:
        pkgutil.resolve_name(name)
    except Exception as error:
        wrong[name] = f"{type(error).__name__}: {error}"
print(json.dumps(wrong))
"""
    names = sorted(set().union(*map(modules_named, PAGES)))
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_are_named_exist(page: Path) -> None:
    assert {name: unresolved()[name] for name in modules_named(page) & unresolved().keys()} == {}


def test_what_the_page_on_stages_shows_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block that begins with ``$ workbench stages``."""
    page = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    (program,) = programs("docs/stages.md")
    (tmp_path / "layers.py").write_text(program, encoding="utf-8")
    blocks = re.findall(r"```text\n\$ workbench (stages [^\n]*)\n(.*?)```", page, re.S)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the script, which is asked in a process of its own
    for command, shown in blocks:
        done = CliRunner().invoke(cli, command.split(), prog_name="workbench")
        assert done.exit_code == 0, done.output
        assert [line.rstrip() for line in done.stdout.strip().splitlines()] == shown.strip().splitlines()


def test_the_program_of_the_readme(tmp_path: Path) -> None:
    (program,) = programs("README.md")
    (tmp_path / "line.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "line.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert re.fullmatch(r"loss 0\.00\d{4}\n", done.stdout)


class Executed(observe.Observer):
    """(node name, frame, iteration) → dead, of the last step."""

    level = TraceLevel.TIMES

    def step_begin(self, step: observe.StepInfo) -> None:
        self.dead: dict[tuple[str, int, int], bool] = {}

    def executions(self, step: observe.StepInfo, batch: observe.Executions) -> None:
        for node, frame, iteration, dead in zip(
            batch.node, batch.frame, batch.iteration, batch.dead, strict=True
        ):
            self.dead[
                step.stage.order[node].removeprefix("choose/").removeprefix("sum/"), frame, iteration
            ] = bool(dead)


@pytest.mark.usefixtures("as_written")
def test_the_example_of_the_page_on_frames() -> None:
    (program,) = programs("docs/frames.md")
    seen = Executed()
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(plans="off")) as session:
        scope: dict[str, Any] = {"tf": tf}
        exec(program, scope)
        observe.install(seen)
        try:
            assert session.run(scope["r"], {scope["n"]: 2}) == 1
            taken = seen.dead
            assert session.run(scope["r"], {scope["n"]: 0}) == -1
            untaken = seen.dead
        finally:
            observe.uninstall(seen)

    def is_dead(dead: dict[tuple[str, int, int], bool], frame: int, iteration: int, names: str) -> set[bool]:
        return {dead[name, frame, iteration] for name in names.split()}

    assert is_dead(taken, 0, 0, "Switch switch_t Less/Switch Const_1 Enter Enter_1 Less/Enter Merge") == {
        False
    }
    assert is_dead(taken, 0, 0, "switch_f Const") >= {True}
    body = "Identity Identity_1 add add_1 NextIteration NextIteration_1"
    head = "Merge Merge_1 Less LoopCond Switch Switch_1"
    for iteration in (0, 1):
        assert is_dead(taken, 1, iteration, f"{head} {body}") == {False}
        assert is_dead(taken, 1, iteration, "Exit_1") == {True}
    assert is_dead(taken, 1, 2, f"{head} Exit_1") == {False}
    assert is_dead(taken, 1, 2, body) == {True}
    assert max(iteration for _, _, iteration in taken) == 2
    assert is_dead(untaken, 0, 0, "switch_f Merge Less/Switch") == {False}
    assert is_dead(untaken, 0, 0, "switch_t Enter Enter_1 Less/Enter") == {True}
    assert is_dead(untaken, 1, 0, f"{head} {body} Exit_1") == {True}


def test_the_programs_of_the_page_on_traces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    writing, reading, flow = programs("docs/traces.md")
    with tf.Graph().as_default():
        exec(writing, {})
    (run,) = (tmp_path / "runs").iterdir()
    exec(re.sub(r'"runs/[^"]*"', repr(str(run)), reading), {})
    state, node = capsys.readouterr().out.splitlines()
    assert state == "finished"
    assert node.split()[1:] == ["0", "0"]
    with tf.Graph().as_default():
        exec(flow, {})
    said = capsys.readouterr().out
    assert (
        "root > loop made at line 6 entered at row" in said
        and "5 iterations; at most 2 of 2 under way" in said
    )
    assert "put by" in said and said.endswith("was True\n")


@pytest.mark.parametrize("number", [0, 1])
def test_the_programs_of_devices(number: int, tmp_path: Path) -> None:
    (tmp_path / "device.py").write_text(programs("docs/devices.md")[number], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "device.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = ("modelled GPU with the figures of NVIDIA H200 SXM", "MatMul product")[number]
    assert wanted in done.stdout
