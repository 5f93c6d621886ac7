"""A script under `workbench.host` finds and gives what it would under Python itself."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

REPORTER = """
    import sys, os
    print(sys.argv, __name__, __file__, sys.path[0], __spec__, __package__, __doc__, sorted(globals()))
    print(type(__loader__).__name__, __loader__.get_filename(), __builtins__, sys.modules["__main__"].__dict__ is globals())
    import multiprocessing, pickle
    class Mine: pass
    assert type(pickle.loads(pickle.dumps(Mine()))) is Mine
    def function():
        raise ValueError("boom")
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "chain":
        try:
            1 / 0
        except ZeroDivisionError as error:
            function()
    if what == "cause":
        try:
            function()
        except ValueError as error:
            raise RuntimeError("because") from error
    if what == "exit": sys.exit(int(sys.argv[2]))
    if what == "words": sys.exit("words")
    if what == "none": sys.exit()
    if what == "_exit": os._exit(7)
    if what == "interrupt": raise KeyboardInterrupt
    if what == "syntax": exec(compile("x = = 1", "other.py", "exec"))
    if what == "hook":
        sys.excepthook = lambda kind, error, trace: print(kind.__name__, error, trace.tb_lineno, error.__traceback__ is trace)
        function()
    if what == "group": raise ExceptionGroup("several", [ValueError(1), TypeError(2)])
    if what == "atexit":
        import atexit, threading, time
        atexit.register(lambda: print("exiting"))
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
        function()
"""


def alike(run: Run, script: str | Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `script` both ways, and check that nobody could tell the difference."""
    plain = run(script, *args, cwd=cwd)
    hosted = run("-m", "workbench.host", script, *args, cwd=cwd)
    assert hosted.stdout == plain.stdout
    assert hosted.stderr == plain.stderr
    assert hosted.returncode == plain.returncode
    return hosted


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["--commands", "x", "--", "-z", "--logdir"], 0),
        (["chain"], 1),
        (["cause"], 1),
        (["exit", "3"], 3),
        (["exit", "300"], 300 & 0xFF),
        (["words"], 1),
        (["none"], 0),
        (["_exit"], 7),
        (["interrupt"], -2),
        (["syntax"], 1),
        (["hook"], 1),
        (["group"], 1),
        (["atexit"], 1),
    ],
)
def test_arguments_module_traceback_and_exit_status_are_pythons(
    args: list[str], status: int, run_python: Run, write_script: Callable[..., Path]
) -> None:
    script = write_script(REPORTER, "reporter.py")
    assert alike(run_python, "reporter.py", *args, cwd=script.parent).returncode == status


def test_paths_directories_neighbours_encodings_and_syntax_errors(
    run_python: Run, write_script: Callable[..., Path]
) -> None:
    script = write_script(
        "import neighbour, sys; print(neighbour.__file__, sys.argv, sys.path[0])", "main.py"
    )
    write_script("x = 1", "neighbour.py")
    (script.parent / "link").mkdir()
    (script.parent / "link" / "alias.py").symlink_to(script)
    (script.parent / "__main__.py").write_text(script.read_text())
    program = (
        "import sys; print(sys.argv, sys.path[0], __file__, __package__, __spec__.name, sorted(globals()))"
    )
    (script.parent / "link" / "__main__.py").write_text(program)
    (script.parent / "folder").symlink_to(script.parent / "link")
    with zipfile.ZipFile(script.parent / "program.zip", "w") as archive:
        archive.writestr("__main__.py", program)
    (script.parent / "latin.py").write_bytes("# coding: latin-1\nprint('é')\n".encode("latin-1"))
    (script.parent / "broken.py").write_text("def f(:\n    pass\n")
    for name in (
        "main.py",
        "./main.py",
        "../scripts/main.py",
        "link/alias.py",
        ".",
        "latin.py",
        "broken.py",
        str(script),
    ):
        alike(run_python, name, cwd=script.parent)


def test_recording_changes_nothing_but_leaves_a_run(
    run_python: Run, nested_script: Path, tmp_path: Path
) -> None:
    plain = run_python(nested_script)
    hosted = run_python(
        *(
            "-m",
            "workbench.host",
            "--trace",
            "times",
            "--logdir",
            tmp_path / "runs",
            "--run-file",
            tmp_path / "path",
        ),
        nested_script,
    )
    assert (hosted.stdout, hosted.stderr, hosted.returncode) == (plain.stdout, plain.stderr, 0)
    from tracing.reader import Run as Recorded

    with Recorded.open((tmp_path / "path").read_text()) as run:
        assert run.state == "finished" and run.script == str(nested_script)
        assert [step.fetches for step in run.steps()] == [("if/Merge:0",), ("start:0",)]
        # The stack is the user's own: nothing of ours below it.
        assert {frame.file for step in run.steps() for frame in step.site} == {str(nested_script)}


@pytest.mark.parametrize(
    ("ending", "state", "says"),
    [
        ("raise ValueError('boom')", "failed", "boom"),
        ("import sys; sys.exit(3)", "failed", "status 3"),
        ("import sys; sys.exit(0)", "finished", None),
        ("import os; os._exit(0)", "interrupted", None),
        ("import os; os.kill(os.getpid(), 9)", "interrupted", None),
    ],
)
def test_how_the_script_ended_is_in_its_run(
    ending: str,
    state: str,
    says: str | None,
    run_python: Run,
    write_script: Callable[..., Path],
    tmp_path: Path,
) -> None:
    script = write_script(f"""
        import engine as tf
        tf.Session().run(tf.constant(1))
        {ending}
    """)
    run_python(
        "-m",
        "workbench.host",
        "--trace",
        "times",
        "--logdir",
        tmp_path,
        "--run-file",
        tmp_path / "path",
        script,
    )
    from tracing.reader import Run as Recorded

    with Recorded.open((tmp_path / "path").read_text()) as run:
        assert run.state == state
        assert len(run.steps()) == 1
        assert says is None or says in str(run.error)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "which script?"),
        (["--nonsense", "x"], "--nonsense is not an option"),
        (["--trace"], "--trace is not an option, or needs a value"),
        (["nowhere.py"], "there is no script nowhere.py"),
        (["--trace", "everything", __file__], "is not a trace level"),
    ],
)
def test_bad_options_get_one_message(args: list[str], says: str, run_python: Run, tmp_path: Path) -> None:
    done = run_python("-m", "workbench.host", *args, cwd=tmp_path)
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr
