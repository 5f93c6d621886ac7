"""DebugClient: scripts in processes of their own, and every way in which they can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from workbench.debugger.client import DebugClient, LaunchError
from workbench.debugger.snapshot import Snapshot, Status

Left = Callable[[], Sequence[tuple[int, str]]]

ONE_RUN = """
    import engine as tf, os, signal, sys, time
    x = tf.add(tf.constant(1.0, name="a"), tf.constant(2.0, name="b"), name="x")
    session = tf.Session()
    print("before", flush=True)
    value = session.run(x)
    print("after", value, flush=True)
    {ending}
"""


def eventually(holds: Callable[[], bool]) -> None:
    """What a script prints comes through its pipe, and may be a moment later than what the debugger says."""
    end = time.monotonic() + 100
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_stepping_another_process(nested_script: Path, nothing_left: Left) -> None:
    seen: list[Snapshot] = []
    with DebugClient.launch(nested_script, ["--an", "argument"], on_change=seen.append) as client:
        first = client.wait_for_stop(100)
        assert first.status is Status.STOPPED and first.argv == ("--an", "argument")
        assert first.step is not None and first.step.fetches == ("if/Merge:0",)
        assert first.run_source is not None
        line = first.run_source.lines[first.run_source.line - first.run_source.first]
        assert "session.run(result)" in line
        assert client.command("n 3", 100).ok
        assert client.snapshot.executed == 3
        assert "float32[] 3.0" in client.command("p start", 100).text
        assert client.command("back", 100).ok and client.snapshot.executed == 2
        assert not client.command("p nowhere", 100).ok
        assert client.command("b if/out/in/add if iteration >= 1", 100).ok
        assert client.command("c", 100).ok
        stop = client.snapshot
        assert stop.next is not None and stop.next.path == "root > if/out:0 > in:1"
        assert client.command("d", 100).ok and client.command("r", 100).ok
        second = client.snapshot
        assert second.step is not None and second.step.fetches == ("start:0",)
        eventually(lambda: client.snapshot.output.splitlines() == ["result 15.0"])
        assert client.command("c", 100).ok
        last = client.wait_for_end(100)
        assert (last.status, last.exit_code) == (Status.FINISHED, 0)
        assert last.output.splitlines() == ["result 15.0", "start 3.0"]
        assert not client.command("n", 100).ok
    serials = [snapshot.serial for snapshot in seen]
    assert serials == sorted(set(serials)) and seen[-1].status is Status.FINISHED


@pytest.mark.parametrize(
    ("ending", "status", "code", "says"),
    [
        ("", Status.FINISHED, 0, None),
        ("sys.exit(3)", Status.FINISHED, 3, None),
        ("raise ValueError('boom')", Status.FAILED, 1, "boom"),
        ("os._exit(7)", Status.FAILED, 7, "the script exited with status 7"),
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            Status.FAILED,
            -11,
            "the script was killed by signal 11 (SIGSEGV",
        ),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            Status.FAILED,
            -9,
            "the script was killed by signal 9 (SIGKILL",
        ),
    ],
)
def test_every_ending_is_a_snapshot(
    ending: str,
    status: Status,
    code: int,
    says: str | None,
    write_script: Callable[..., Path],
    nothing_left: Left,
) -> None:
    script = write_script(ONE_RUN.format(ending=ending))
    with DebugClient.launch(script) as client:
        client.wait_for_stop(100)
        reply = client.command("c", 100)
        last = client.wait_for_end(100)
    assert (last.status, last.exit_code) == (status, code)
    assert last.output.splitlines()[:2] == ["before", "after 3.0"]
    if says is None:
        assert last.error is None
    else:
        assert last.error is not None and says in last.error.message
        assert reply.ok or "script" in reply.text
    if code == 1:
        assert last.error is not None and last.error.type == "ValueError"
        # The user's own frames and no other, as Python prints them.
        assert [line.strip() for line in last.error.traceback.splitlines()] == [
            "Traceback (most recent call last):",
            f'File "{script}", line 8, in <module>',
            "raise ValueError('boom')",
            "ValueError: boom",
        ]
        assert "\n".join(last.output.splitlines()[2:]) == last.error.traceback.strip()


def test_a_script_that_dies_inside_a_kernel(write_script: Callable[..., Path], nothing_left: Left) -> None:
    script = write_script("""
        import engine as tf, os, signal
        x = tf.py_func(lambda: os.kill(os.getpid(), signal.SIGSEGV), [], tf.float32, name="crash")
        tf.Session().run(x)
    """)
    with DebugClient.launch(script) as client:
        client.wait_for_stop(100)
        reply = client.command("n", 100)
        assert not reply.ok and "was killed by signal 11 (SIGSEGV, segmentation fault)" in reply.text
        last = client.wait_for_end(100)
        assert last.status is Status.FAILED and last.error is not None and "SIGSEGV" in last.error.message


def test_a_kernels_error_stops_first_and_then_is_the_scripts(write_script: Callable[..., Path]) -> None:
    script = write_script("""
        import engine as tf
        x = tf.gather(tf.constant([1, 2]), tf.constant(5), name="x")
        tf.Session().run(x)
    """)
    with DebugClient.launch(script) as client:
        client.wait_for_stop(100)
        assert client.command("c", 100).ok
        stop = client.snapshot
        assert stop.reason == "error in x" and stop.error is not None
        assert client.command("c", 100).ok
        last = client.wait_for_end(100)
    assert (last.status, last.exit_code) == (Status.FAILED, 1)
    assert last.error is not None and last.error.type == "InvalidArgumentError"
    assert "workbench" not in last.output and f'File "{script}", line 4' in last.output


def test_a_script_that_never_runs_a_session(write_script: Callable[..., Path]) -> None:
    with DebugClient.launch(write_script("print('nothing to do')")) as client:
        last = client.wait_for_stop(100)
        assert (last.status, last.exit_code) == (Status.FINISHED, 0)
        assert client.output_tail() == "nothing to do\n"


@pytest.mark.parametrize(
    ("code", "says"),
    [(None, "there is no script"), ("def f(:", "")],
)
def test_a_script_that_cannot_begin(
    code: str | None, says: str, write_script: Callable[..., Path], tmp_path: Path
) -> None:
    if code is None:
        with pytest.raises(LaunchError, match="exited with status 2") as caught:
            DebugClient.launch(tmp_path / "nowhere.py")
        assert says in str(caught.value)
        return
    with DebugClient.launch(write_script(code)) as client:
        last = client.wait_for_stop(100)
        assert last.status is Status.FAILED and last.error is not None and last.error.type == "SyntaxError"


@pytest.mark.parametrize("when", ["stopped", "busy", "over"])
def test_terminate(when: str, write_script: Callable[..., Path], nothing_left: Left) -> None:
    client = DebugClient.launch(
        write_script(ONE_RUN.format(ending="time.sleep(1000)" if when == "busy" else ""))
    )
    client.wait_for_stop(100)
    if when != "stopped":
        future = client.send("c")
        # What tells that the script goes about its own business again comes after a moment.
        client.wait_until(lambda snapshot: snapshot.status is Status.WAITING_FOR_RUN, 100)
    if when == "over":
        client.wait_for_end(100)
    client.terminate()
    assert nothing_left() == []
    client.wait_for_end(100)
    assert client.snapshot.status in (Status.FINISHED, Status.FAILED)
    if when == "busy":
        assert not future.result(100).ok
    assert not client.command("n", 100).ok


def test_quit_lets_the_script_clean_up(write_script: Callable[..., Path], nothing_left: Left) -> None:
    script = write_script("""
        import atexit
        import engine as tf
        atexit.register(lambda: print("cleaned up", flush=True))
        tf.Session().run(tf.constant(1.0))
        print("not reached")
    """)
    client = DebugClient.launch(script)
    client.wait_for_stop(100)
    assert client.quit() == 0
    assert client.output_tail() == "cleaned up\n"


def test_pausing_a_long_step_and_looking_around(write_script: Callable[..., Path]) -> None:
    script = write_script("""
        import engine as tf
        last = tf.while_loop(lambda i: tf.less(i, 1_000_000_000), lambda i: tf.add(i, 1, name="next"), [0], name="loop")
        tf.Session().run(last)
    """)
    with DebugClient.launch(script) as client:
        client.wait_for_stop(100)
        moving = client.send("c")
        client.wait_until(lambda snapshot: snapshot.status is Status.RUNNING and snapshot.executed > 100, 100)
        reply = client.command("p loop/next", 100)
        assert not reply.ok and "pause" in reply.text
        assert client.command("b loop/next if iteration >= 900000000", 100).ok
        assert client.command("pause", 100).ok
        assert moving.result(100).ok
        stop = client.snapshot
        assert stop.status is Status.STOPPED and stop.reason == "paused"
        assert stop.next is not None and stop.next.path.startswith("root > loop:")
        assert "int32[]" in client.command("p loop/next", 100).text


def test_a_forked_child_of_the_script_is_not_debugged(
    write_script: Callable[..., Path], nothing_left: Left
) -> None:
    script = write_script("""
        import os
        import engine as tf
        x, session = tf.constant(1.0, name="x"), tf.Session()
        if not os.fork():
            print("child", session.run(x), flush=True)
            os._exit(0)
        os.wait()
        print("parent", session.run(x), flush=True)
    """)
    with DebugClient.launch(script) as client:
        client.wait_for_stop(100)
        assert client.command("c", 100).ok
        assert client.wait_for_end(100).output.splitlines() == ["child 1.0", "parent 1.0"]


def test_recording_and_stepping_at_once(nested_script: Path, tmp_path: Path) -> None:
    with DebugClient.launch(nested_script, trace="full", logdir=tmp_path / "runs") as client:
        client.wait_for_stop(100)
        for line in ("n 30", "back 10", "c"):
            assert client.command(line, 100).ok
        client.wait_for_end(100)
    from tracing import directory
    from tracing.reader import Run

    (path,) = directory.find(tmp_path / "runs")
    with Run.open(path) as run:
        assert run.state == "finished" and len(run.steps()) == 2


def test_the_scripts_standard_input_is_empty_and_its_group_its_own(write_script: Callable[..., Path]) -> None:
    script = write_script("import os, sys; print(repr(sys.stdin.read()), os.getpgid(0) == os.getppid())")
    with DebugClient.launch(script) as client:
        assert client.wait_for_end(100).output == "'' True\n"


def test_a_front_end_that_is_killed_leaves_nothing(
    nested_script: Path,
    write_script: Callable[..., Path],
    nothing_left: Left,
    python_environment: dict[str, str],
) -> None:
    front = write_script(
        """
        import sys, time
        from workbench.debugger.client import DebugClient
        client = DebugClient.launch(sys.argv[1])
        client.wait_for_stop(100)
        print("up", flush=True)
        time.sleep(1000)
        """,
        "front.py",
    )
    # A socket's address is short, so a directory in pytest's would not be used.
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:
        process = subprocess.Popen(
            [sys.executable, front, nested_script],
            stdout=subprocess.PIPE,
            env={**python_environment, "TMPDIR": scratch},
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"up\n"
            assert len(os.listdir(scratch)) == 1
            os.kill(process.pid, signal.SIGKILL)
            process.wait(100)
        assert nothing_left() == []
        assert os.listdir(scratch) == []


def test_two_clients_at_once_do_not_meet(nested_script: Path) -> None:
    results = []

    def step() -> None:
        with DebugClient.launch(nested_script) as client:
            client.wait_for_stop(100)
            for _ in range(10):
                client.command("n", 100)
            results.append(client.snapshot.executed)

    threads = [threading.Thread(target=step) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert results == [10, 10]
