"""The command line: what it prints, what it ends with, and what it says to bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from optimizing import plain

from tracing.reader import Run as Recorded
from workbench.cli import cli
from workbench.runs import locate

Run = Callable[..., subprocess.CompletedProcess[str]]
Left = Callable[[], Sequence[tuple[int, str]]]


def call(*arguments: str | Path) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="workbench")


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two runs of `alpha` and one of `beta`, and one that is damaged."""
    import engine as tf
    import tracing

    folder = tmp_path_factory.mktemp("logdir")
    for name in ("alpha", "alpha", "beta"):
        with tracing.record(folder, name=name), tf.Graph().as_default():
            session = tf.Session()
            for _ in range(3):
                session.run(tf.constant(1.0) + 2.0)
        time.sleep(0.01)
    damaged = folder / "2026-01-01_00-00-00_damaged-0000"
    shutil.copytree(locate("beta", folder), damaged)
    (damaged / "run.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    return folder


def test_show_prints_the_report_as_text_and_as_json(logdir: Path) -> None:
    shown = call("show", "beta", "--logdir", logdir)
    assert shown.exit_code == 0 and "beta: finished" in shown.output and "3 steps" in shown.output
    report = json.loads(call("show", "beta", "--json", "--logdir", logdir).output)
    assert report["steps"] == 3 and report["state"] == "finished" and report["slowest"]


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run of a cond in a while_loop and its gradient, with its values."""
    import engine as tf
    import tracing

    folder = tmp_path_factory.mktemp("loops")
    with tf.Graph().as_default():
        x = tf.constant(2.0, name="x")

        def body(i: Any, v: Any) -> Any:
            return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: v * x, lambda: tf.sin(v), name="choose")

        y = tf.while_loop(lambda i, v: i < 3, body, [0, x], parallel_iterations=1, name="loop")[1]
        gradient = tf.gradients(y, x)[0]
        config = plain()
        config.plans = "off"  # whose iterations are never held back
        session = tf.Session(config=config)
        with tracing.record(folder, "values", name="loops", tensorboard=False), session:
            session.run(x)
            session.run([y, gradient])
    return folder


def test_show_says_what_control_flow_did_in_a_step(loops: Path) -> None:
    shown = call("show", "loops", "--step", "last", "--logdir", loops)
    assert shown.exit_code == 0, shown.output
    for words in (
        "(run 2 of session ", "session.run([y, gradient])", "root > loop  (frame 1)", "by         loop/Enter",
        "made at    test_cli.py:", "4 begun, 4 ended", "at most 1 of 1 under way", "3 held back", "backward   of the loop loop",
        "held back from #", "read by ", "float32 2.0",
    ):  # fmt: skip
        assert words in shown.output, words
    assert "2 frames, 8 iterations, 6 held back" in call("show", "loops", "--logdir", loops).output
    why = call("show", "loops", "--why", "loop/choose/Sin@1:0", "--logdir", loops)
    assert "loop/choose/pred_id:0 was True: output 0 is dead" in why.output
    assert "alive: another of its inputs was" in why.output and "root > loop  (frame" not in why.output
    with Recorded.open(locate("loops", loops)) as run:
        first = str(run.steps()[0].id)
    assert (
        "the step has no loop" in call("show", "loops", "--step", first, "--frames", "--logdir", loops).output
    )


def test_show_gives_a_steps_control_flow_as_json(loops: Path) -> None:
    given = ["--step", "last", "--frames", "--stacks", "--why", "loop/choose/Sin", "--json"]
    data = json.loads(call("show", "loops", *given, "--logdir", loops).output)
    forward, backward = data["frames"]
    assert [each["state"] for each in forward["iterations"]] == ["ended"] * 4
    assert forward["parallel_iterations"] == 1 and forward["deferred"] == 3 and forward["waited_ns"] > 0
    assert backward["gradient_of"] == forward["name"] == "loop/while_context"
    stack = next(each for each in data["stacks"] if each["gradient_of"] == "loop/choose/Sin")
    (element,) = stack["elements"]
    assert element["put"]["path"] == "root > loop:1" and element["health"]["mean"] == 4.0
    assert element["taken"]["node"] == stack["read_by"][0]
    assert data["why"]["way"][0]["role"] == "killed by"
    after = json.loads(
        call("show", "loops", "--after", str(element["put"]["row"]), "--json", "--logdir", loops).output
    )
    held = {each["resource"]: len(each["elements"]) for each in after["stacks"]}
    assert held[stack["resource"]] == 1 and "frames" not in after


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--step", "999999"], "has no step 999999: its steps are "),
        (["--step", "x"], "has no step x"),
        (["--why", "nobody"], "'nobody' did not run"),
        (["--why", "loop/Less"], "'loop/Less' was alive"),
        (["--why", "loop/Less@one"], "NODE@FRAME:ITERATION"),
    ],
)
def test_show_says_what_is_wrong_about_a_step(loops: Path, arguments: list[str], said: str) -> None:
    shown = call("show", "loops", *arguments, "--logdir", loops)
    assert shown.exit_code == 2 and said in shown.output and "Traceback" not in shown.output


def test_runs_lists_all_newest_first_and_says_which_is_damaged(logdir: Path) -> None:
    listed = call("runs", "--logdir", logdir)
    assert listed.exit_code == 0
    names = [line.split()[0] for line in listed.output.splitlines()[1:]]
    assert len(names) == 4 and "beta" in names[0] and "damaged" in names[3]
    rows = json.loads(call("runs", "--logdir", logdir, "--json").output)
    assert [row["name"] for row in rows] == names
    assert [row["state"] for row in rows] == ["finished"] * 3 + ["damaged"]
    assert [row["steps"] for row in rows] == [3, 3, 3, 0]


def test_runs_of_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there are no runs in ./runs; workbench demo makes one" in call("runs").output
    assert json.loads(call("runs", "--json").output) == []


def test_a_run_is_found_by_path_name_beginning_and_latest(logdir: Path) -> None:
    beta = locate("beta", logdir)
    assert locate(str(beta), "nowhere") == beta
    assert locate(str(beta / "run.sqlite"), "nowhere") == beta
    assert locate(beta.name, logdir) == beta
    assert locate(beta.name[len("2026-11-20_14-03-11_") :], logdir) == beta
    assert locate("be", logdir) == beta
    assert locate("latest", logdir) == beta


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "alpha"], "'alpha' could be any of 2 runs in"),
        (["show", "gamma"], "there is no run 'gamma' in"),
        (["show", "damaged"], "run.sqlite"),
        (["open", "damaged"], "run.sqlite"),
        (["show", "/nowhere/at/all"], "there is no run directory /nowhere/at/all"),
        (["show", "."], "is not a run directory"),
        (["show", __file__], ""),
        (["tensorboard", "gamma"], "there is no run 'gamma' in"),
        (["tensorboard", "beta", "--port", "99999"], "99999"),
        (["demo", "--steps", "0"], "0 is not in the range"),
        (["demo", "--devices", "TPU"], "'TPU' is no kind and number of devices"),
        (["demo", "--steps", "many"], "'many' is not a valid integer"),
        (["run", "nowhere.py"], "there is no script nowhere.py"),
        (["run", "."], "is a directory without a __main__.py"),
        (["run", "--trace", "all", __file__], "'all' is not one of"),
        (["run"], "Missing argument 'SCRIPT'"),
        (["step", "nowhere.py"], "there is no script nowhere.py"),
        (["step", "--commands", "n; hop", __file__], "there is no command 'hop'"),
        (["step", __file__, "--commands", "n; hop"], "there is no command 'hop'"),
        (["show"], "Missing argument 'RUN'"),
        (["shwo"], "No such command 'shwo'"),
        (["--nonsense"], "No such option"),
    ],
)
def test_bad_input_gets_one_clear_message_and_status_2(arguments: list[str], says: str, logdir: Path) -> None:
    takes_logdir = arguments[0] in ("show", "open", "tensorboard")
    result = call(*arguments, *(["--logdir", str(logdir)] if takes_logdir else []))
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert "Traceback" not in result.output
    problems = [line for line in result.output.splitlines() if line.startswith(("workbench:", "Error:"))]
    assert len(problems) == 1


def test_a_logdir_that_cannot_be_made_or_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    made = call("run", "--logdir", file / "runs", __file__)
    assert made.exit_code == 2 and "cannot be made" in made.output
    listed = call("runs", "--logdir", file)
    assert listed.exit_code == 2 and "cannot be listed" in listed.output


def test_run_is_python_and_leaves_a_run(run_python: Run, nested_script: Path, tmp_path: Path) -> None:
    done = run_python(
        "-m", "workbench", "run", "--trace", "values", nested_script, "--logdir", "x", cwd=tmp_path
    )
    assert done.returncode == 0 and done.stdout == "result 15.0\nstart 3.0\n"
    (said,) = done.stderr.splitlines()
    assert said.startswith("workbench: recorded; look at it with: workbench open nested-")
    shown = run_python("-m", "workbench", "show", said.split()[-1], "--json", cwd=tmp_path)
    report = json.loads(shown.stdout)
    assert report["steps"] == 2 and report["level"] == "values"
    assert not (tmp_path / "x").exists()  # that was the script's argument


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "status", "says"),
    [
        ("sys.exit(3)", 3, None),
        ("raise ValueError('boom')", 1, "ValueError: boom"),
        ("os.kill(os.getpid(), 11)", 139, "was killed by signal 11 (SIGSEGV, segmentation fault)"),
    ],
)
def test_how_a_script_ends_is_how_run_and_step_end(
    ending: str,
    status: int,
    says: str | None,
    run_python: Run,
    write_script: Callable[..., Path],
    tmp_path: Path,
) -> None:
    script = write_script(f"import os, sys, engine as tf\ntf.Session().run(tf.constant(1))\n{ending}\n")
    ran = run_python("-m", "workbench", "run", script, cwd=tmp_path)
    stepped = run_python("-m", "workbench", "step", "--commands", "c", script, cwd=tmp_path)
    for done in (ran, stepped):
        assert done.returncode == status
        assert says is None or says in done.stdout + done.stderr
        assert "workbench/" not in done.stderr.replace(str(tmp_path), "")  # no frames of ours
    report = json.loads(run_python("-m", "workbench", "show", "latest", "--json", cwd=tmp_path).stdout)
    assert report["steps"] == 1


def test_a_killed_run_opens_with_every_finished_step(
    run_python: Run,
    write_script: Callable[..., Path],
    tmp_path: Path,
    python_environment: dict[str, str],
    nothing_left: Left,
) -> None:
    script = write_script("""
        import engine as tf
        x, session = tf.constant(1.0) + 2.0, tf.Session()
        for i in range(1_000_000):
            session.run(x)
            print(i, flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", "run", script],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=python_environment,
    )
    assert process.stdout is not None
    with process.stdout:
        finished = 0
        while finished < 20:
            finished = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        process.wait(100)
    assert nothing_left() == []
    finished = max([finished, *(int(line) for line in rest if line.isdigit())]) + 1
    report = json.loads(run_python("-m", "workbench", "show", "latest", "--json", cwd=tmp_path).stdout)
    assert report["state"] == "interrupted" and report["steps"] in (finished, finished + 1)


@pytest.mark.parametrize("command", [["run"], ["step", "--commands", "c"]])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_ends_the_script_and_everything(
    command: list[str],
    number: int,
    status: int,
    write_script: Callable[..., Path],
    tmp_path: Path,
    python_environment: dict[str, str],
    nothing_left: Left,
) -> None:
    script = write_script("""
        import time
        import engine as tf
        tf.Session().run(tf.constant(1.0))
        print("ready", flush=True)
        time.sleep(1000)
    """)
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", *command, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=python_environment,
        process_group=0,
    )
    assert process.stdout is not None
    while "ready" not in (line := process.stdout.readline()):
        assert line, "the script did not get so far"
    # As a terminal does it: to everybody in the foreground.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (status, errors)
    assert "workbench/" not in errors.replace(str(tmp_path), ""), errors
    assert nothing_left() == []


STEPPED = """\
step 1 of session 1, {nodes} nodes
  fetch if/Merge:0
  from  {script}:15  print("result", session.run(result))

stop  Session.run begins
next  start  (Const)  root
        {script}:4  start = tf.constant(3.0, name="start")
      0 executed, 2 ready, 0 waiting
"""


def test_step_prints_what_happens(run_python: Run, nested_script: Path) -> None:
    commands = "n; b if/out/in/add_1 if iteration >= 1; c; info frames; p start; d; c"
    done = run_python(
        "-m", "workbench", "step", "--commands", commands, nested_script.name, cwd=nested_script.parent
    )
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    nodes = lines[0].split()[-2]
    begin = STEPPED.format(nodes=nodes, script=nested_script.name).splitlines()
    assert lines[: len(begin)] == begin
    for line in (
        "(step) n",
        "#0     start  (Const)  root  → float32[] 3.0",
        "breakpoint 1 at if/out/in/add_1 if iteration >= 1",
        "stop  breakpoint 1 at if/out/in/add_1",
        "next  if/out/in/add_1  (AddV2)  root > if/out:0 > in:1",
        "start:0  float32[] 3.0",
        "result 15.0",
        "start 3.0",
        "nested.py has finished with exit status 0",
    ):
        assert line in lines, done.stdout
    inner = next(line for line in lines if line.startswith("    root > if/out:0 > in  (frame 2, #"))
    assert inner.endswith("2 iterations begun, 1 ended)")
    assert lines.index("result 15.0") < lines.index("nested.py has finished with exit status 0")


@pytest.mark.slow
def test_step_takes_commands_after_the_script_too_but_not_behind_two_dashes(
    run_python: Run, write_script: Callable[..., Path]
) -> None:
    script = write_script("""
        import sys
        import engine as tf
        tf.Session().run(tf.constant(1.0))
        print(sys.argv[1:])
    """)
    for given, seen in (
        (["--commands", "c", "-x"], ["-x"]),
        (["-x", "--commands=c", "--", "--commands", "y"], ["-x", "--", "--commands", "y"]),
    ):
        done = run_python("-m", "workbench", "step", script, *given)
        assert done.returncode == 0 and repr(seen) in done.stdout


def test_step_reads_commands_from_a_pipe_and_stops_where_they_end(
    run_python: Run, nested_script: Path
) -> None:
    done = run_python("-m", "workbench", "step", nested_script, stdin=None, input="n\nn ; n\n")
    assert done.returncode == 0
    assert "#2 " in done.stdout and "#3 " not in done.stdout
    assert (
        "no more commands: the script was ended where it stood" in done.stdout
        and "result 15" not in done.stdout
    )


def test_a_command_that_fails_shows_in_the_exit_status(run_python: Run, nested_script: Path) -> None:
    done = run_python("-m", "workbench", "step", "--commands", "info nowhere; c", nested_script)
    assert done.returncode == 2 and "! there is no node 'nowhere' in this step" in done.stdout


@pytest.mark.slow
def test_step_of_a_script_without_a_run_and_of_an_error(
    run_python: Run, write_script: Callable[..., Path]
) -> None:
    done = run_python("-m", "workbench", "step", write_script("print('hello')"))
    assert done.returncode == 0 and "never called Session.run" in done.stdout and "hello" in done.stdout
    script = write_script("""
        import engine as tf
        x = tf.gather(tf.constant([1, 2]), tf.constant(5), name="x")
        tf.Session().run(x)
    """)
    done = run_python("-m", "workbench", "step", "--commands", "c; info x", script)
    assert done.returncode == 1
    assert "stop  error in x" in done.stdout and "x  (Gather" in done.stdout
    assert "InvalidArgumentError" in done.stderr and f'File "{script}", line 4' in done.stderr


def test_the_help_of_every_command_names_its_arguments() -> None:
    overview = call("--help").output
    for name, command in cli.commands.items():
        assert name in overview
        assert command.help and command.help.splitlines()[0].rstrip(".")[:20] in call(name, "--help").output


def test_the_version() -> None:
    said = call("--version")
    assert said.exit_code == 0 and said.output.startswith("workbench ")


def test_the_command_line_starts_fast_and_imports_no_engine() -> None:
    code = "import sys, workbench.cli; print([m for m in ('engine', 'numpy', 'textual', 'rich') if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_tensorboard_serves_the_run_and_ends_with_us(
    logdir: Path, python_environment: dict[str, str], tmp_path: Path, nothing_left: Left, write_script: Any
) -> None:
    fake = write_script(
        "import sys, time; print('serving', sys.argv[1:], flush=True); time.sleep(1000)", "main.py"
    )
    package = fake.parent / "tensorboard"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.move(fake, package / "main.py")
    environment = {
        **python_environment,
        "PYTHONPATH": f"{fake.parent}{os.pathsep}{python_environment['PYTHONPATH']}",
    }
    run = shutil.copytree(locate("beta", logdir), tmp_path / "beta")
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", "tensorboard", run, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
        assert "serving" in line and str(run) in line and "'--port', '0'" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(100) == 128 + signal.SIGTERM
    assert nothing_left() == []
