"""Child processes: what they print is kept, and nothing of them outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from workbench.process import ChildProcess, describe_exit, make_private_directory

Left = Callable[[], Sequence[tuple[int, str]]]


def child(script: Path, *args: str, **options: bool) -> ChildProcess:
    return ChildProcess([sys.executable, str(script), *args], **options)


def until(condition: Callable[[], object], seconds: float = 100.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_output_of_both_streams_is_kept_in_order_and_complete_at_the_end(
    write_script: Callable[..., Path],
) -> None:
    script = write_script("""
        import sys
        for i in range(300):
            print("out", i, flush=True)
            print("err", i, file=sys.stderr, flush=True)
    """)
    with child(script) as process:
        assert process.wait(100) == 0
        lines = process.output_tail(100_000).splitlines()
        assert lines == [f"{stream} {i}" for i in range(300) for stream in ("out", "err")]
        assert process.output_tail(8) == "err 299\n"


def test_output_is_complete_however_late_it_is_read(
    write_script: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ChildProcess._read

    def late(process: ChildProcess) -> None:
        time.sleep(0.3)
        read(process)

    monkeypatch.setattr(ChildProcess, "_read", late)
    monkeypatch.setattr("workbench.process._HELD_SECONDS", 0.01)
    with child(write_script("print('said')")) as process:
        assert process.wait(100) == 0
        assert process.output_tail() == "said\n"


def test_long_output_is_bounded_and_cut_between_characters(write_script: Callable[..., Path]) -> None:
    script = write_script("""
        import sys
        for _ in range(60):
            sys.stdout.write("äö" * 10_000)
    """)
    with child(script) as process:
        assert process.wait(100) == 0
        until(lambda: process.output_tail(5) == "öäöäö" or process.output_tail(4) == "äöäö")
        assert set(process.output_tail(100_000)) <= {"ä", "ö", "\ufffd"}
        assert len(process._tail._bytes) <= 500_000


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("import os; os._exit(255)", 255),
        ("raise ValueError", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_the_exit_status_is_the_commands_own(code: str, status: int) -> None:
    with ChildProcess([sys.executable, "-c", code]) as process:
        assert process.wait(100) == status
        assert process.poll() == status


def test_describe_exit() -> None:
    assert describe_exit(3) == "exited with status 3"
    assert describe_exit(-11) == "was killed by signal 11 (SIGSEGV, segmentation fault)"
    assert describe_exit(-77) == "was killed by signal 77 (unknown)"


STUBBORN = """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if len(sys.argv) < 2:
        subprocess.Popen([sys.executable, __file__, "grandchild"])
    print("ready", flush=True)
    time.sleep(1000)
"""


def test_terminate_ends_a_stubborn_script_and_its_children(
    write_script: Callable[..., Path], nothing_left: Left
) -> None:
    process = child(write_script(STUBBORN))
    until(lambda: process.output_tail().count("ready") == 2)
    assert process.terminate(grace=0.2) == -signal.SIGKILL
    assert nothing_left() == []
    assert process.terminate() == -signal.SIGKILL  # once more does no harm


def test_what_a_finished_script_left_behind_is_ended_too(
    write_script: Callable[..., Path], nothing_left: Left
) -> None:
    script = write_script("""
        import subprocess, sys
        if len(sys.argv) < 2:
            subprocess.Popen([sys.executable, __file__, "left"])
        else:
            import time
            time.sleep(1000)
    """)
    process = child(script)
    assert process.wait(100) == 0
    assert process.output_tail() == ""  # though the pipe is still open
    process.terminate()
    assert nothing_left() == []


FRONT = """
    import sys, time
    from workbench.process import ChildProcess
    process = ChildProcess([sys.executable, sys.argv[1]], own_group=sys.argv[2] == "1")
    while process.output_tail().count("ready") < int(sys.argv[3]):
        time.sleep(0.01)
    print("up", flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("number", "own_group"), [(signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGTERM, True)]
)
def test_a_killed_front_end_takes_the_script_with_it(
    number: int,
    own_group: bool,
    write_script: Callable[..., Path],
    nothing_left: Left,
    python_environment: dict[str, str],
) -> None:
    quiet = "import time\nprint('ready', flush=True)\ntime.sleep(1000)"
    script = write_script(STUBBORN if own_group else quiet, "stubborn.py")
    front = subprocess.Popen(
        [
            sys.executable,
            write_script(FRONT, "front.py"),
            script,
            str(int(own_group)),
            "2" if own_group else "1",
        ],
        stdout=subprocess.PIPE,
        env=python_environment,
    )
    assert front.stdout is not None
    with front.stdout:
        assert front.stdout.readline() == b"up\n"
        os.kill(front.pid, number)
        front.wait(100)
    assert nothing_left() == []


def test_a_killed_guard_takes_the_script_with_it(
    write_script: Callable[..., Path], nothing_left: Left
) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("needs PR_SET_PDEATHSIG")
    from workbench.process import host_command

    script = write_script("import time\nprint('ready', flush=True)\ntime.sleep(1000)")
    process = ChildProcess(host_command(str(script), [], line_buffered=True), own_group=False)
    until(lambda: "ready" in process.output_tail())
    os.kill(process.pid, signal.SIGKILL)
    assert nothing_left() == []
    process.terminate()


def test_signals_sent_to_the_guard_reach_the_script(write_script: Callable[..., Path]) -> None:
    script = write_script("""
        import signal, sys, time
        signal.signal(signal.SIGUSR1, lambda number, frame: sys.exit(9))
        print("ready", flush=True)
        time.sleep(1000)
    """)
    with child(script) as process:
        until(lambda: "ready" in process.output_tail())
        process.signal(signal.SIGUSR1)
        assert process.wait(100) == 9


def test_the_private_directory_is_private_and_its_path_is_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    for where in (tmp_path, long):
        monkeypatch.setattr("tempfile.tempdir", str(where))
        path = make_private_directory()
        try:
            assert path.stat().st_mode & 0o777 == 0o700
            assert len(os.fsencode(path / "agent")) < 100
        finally:
            path.rmdir()
