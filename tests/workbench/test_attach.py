"""Attaching to a script that runs by itself: what it takes, who may, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engine as tf
from engine.runtime import driver
from workbench.debugger import doors, listening
from workbench.debugger.client import AttachedProcess, DebugClient, LaunchError
from workbench.debugger.protocol import VERSION, Command, Hello, Lines, Reply, pack, unpack
from workbench.debugger.snapshot import Snapshot, Status

PATIENCE = 60.0  # seconds: nothing takes so long, unless something is broken

# It keeps a second front end waiting for a tenth of a second, not for two.
COUNTING = """
import os, sys, time
import engine as tf
if "WORKBENCH_DEBUG" in os.environ:
    from workbench.debugger import doors
    doors.SEAT_SECONDS = 0.1

w = tf.Variable(0.0, name="w")
more = tf.assign_add(w, 1.0, name="more")
with tf.Session() as session:
    session.run(w.initializer)
    end = time.monotonic() + 300
    while session.run(more) < 1e6 and time.monotonic() < end and not os.path.exists(sys.argv[1]):
        time.sleep(0.005)
    print("w", session.run(w))
"""


@pytest.fixture
def run_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in which scripts listen, with a path that is short enough for a socket."""
    from workbench.process import make_private_directory

    made = make_private_directory()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    yield made
    import shutil

    shutil.rmtree(made, ignore_errors=True)


class Running:
    """A script that counts and listens."""

    def __init__(self, script: Path, environment: dict[str, str], done: Path) -> None:
        self.done = done
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(done)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.line = self.process.stderr.readline()

    @property
    def pid(self) -> int:
        return self.process.pid

    def finish(self) -> tuple[str, str]:
        self.done.write_text("")
        return self.process.communicate(timeout=PATIENCE)


@pytest.fixture
def start(
    run_time: Path, write_script: Callable[..., Path], python_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Running]]:
    """Starts the script with WORKBENCH_DEBUG=1, or what is said instead."""
    started: list[Running] = []

    def begin(code: str = COUNTING, **environment: str) -> Running:
        script = write_script(code, f"counting{len(started)}.py")
        more = {"XDG_RUNTIME_DIR": str(run_time), "WORKBENCH_DEBUG": "1", **environment}
        made = Running(script, {**python_environment, **more}, tmp_path / f"done{len(started)}")
        started.append(made)
        return made

    yield begin
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_a_script_is_attached_to_stepped_changed_and_left(
    start: Callable[..., Running], run_time: Path
) -> None:
    script, other = start(), start()
    assert script.line == f"workbench: attach with: workbench attach {script.pid}\n"
    sockets = run_time / "workbench"
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert stat.S_IMODE((sockets / f"{script.pid}.sock").stat().st_mode) == 0o600
    assert {each.pid for each in listening.listening()} == {script.pid, other.pid}

    seen = 0.0
    for _ in range(2):  # and once more
        with DebugClient.attach(script.pid) as client:
            stopped = client.wait_for_stop(PATIENCE)
            assert stopped.status is Status.STOPPED and stopped.next is not None
            assert client.agent_pid == script.pid
            with pytest.raises(LaunchError, match="another front end is attached"):
                DebugClient.attach(script.pid)
            assert client.command("b more", PATIENCE).ok and client.command("n 2", PATIENCE).ok
            value = float(client.command("p w", PATIENCE).text.split()[-1])
            assert value > seen
            seen = value
            reply = client.command("detach", PATIENCE)
            assert reply.ok and "runs on" in reply.text
            assert client.wait_for_end(PATIENCE).status is Status.DETACHED
        assert not client.command("n", PATIENCE).ok

    with DebugClient.attach(script.pid) as client:  # leaving without a word is leaving too
        client.wait_for_stop(PATIENCE)
        assert client.command("set var w = 2000000", PATIENCE).ok
    out, err = script.process.communicate(timeout=PATIENCE)
    assert float(out.split()[1]) >= 2_000_000 and err == ""
    assert script.process.returncode == 0
    assert {each.pid for each in listening.listening()} == {other.pid}
    assert other.finish()[0].startswith("w ")
    assert list(sockets.iterdir()) == []


def test_a_running_step_is_let_go_in_the_middle(start: Callable[..., Running]) -> None:
    code = (
        "import engine as tf, os, sys\n"
        "limit = tf.constant(20000, name='limit')\n"
        "count = tf.while_loop(lambda i: tf.less(i, limit), lambda i: tf.add(i, 1, name='up'), [0], name='loop')\n"
        "session = tf.Session()\n"
        "while not os.path.exists(sys.argv[1]): value = session.run(count)\n"
        "print(value)\n"
    )
    script = start(code)
    with DebugClient.attach(script.pid) as client:
        client.wait_for_stop(PATIENCE)
        moving = client.send("c")
        client.wait_until(
            lambda snapshot: snapshot.status is Status.RUNNING and snapshot.executed > 50, PATIENCE
        )
        assert client.command("detach", PATIENCE).ok
        assert moving.result(PATIENCE).ok
    out, err = script.finish()
    assert (out, err) == ("20000\n", "")


def test_the_end_of_the_script_is_told(start: Callable[..., Running]) -> None:
    script = start()
    with DebugClient.attach(script.pid) as client:
        client.wait_for_stop(PATIENCE)
        script.done.write_text("")
        client.send("c")
        final = client.wait_for_end(PATIENCE)
        assert final.status is Status.FINISHED and client.poll() == 0
    failing = start(COUNTING.replace('print("w"', "raise KeyError('at the end')\n    print(\"w\""))
    with DebugClient.attach(failing.pid) as client:
        client.wait_for_stop(PATIENCE)
        failing.done.write_text("")
        client.send("c")
        final = client.wait_for_end(PATIENCE)
        assert final.status is Status.FAILED and final.error is not None and final.error.type == "KeyError"
    assert "KeyError: 'at the end'" in failing.finish()[1]


def test_a_killed_script_leaves_a_socket_that_is_known_to_be_stale(
    start: Callable[..., Running], run_time: Path
) -> None:
    script = start()
    with DebugClient.attach(script.pid) as client:
        client.wait_for_stop(PATIENCE)
        script.process.send_signal(signal.SIGKILL)
        script.process.wait()
        final = client.wait_for_end(PATIENCE)
    assert final.status is Status.FAILED and final.error is not None and "has gone" in final.error.message
    path = run_time / "workbench" / f"{script.pid}.sock"
    assert path.exists() and listening.is_stale(path)
    with pytest.raises(LaunchError, match="nobody listens at process"):
        DebugClient.attach(script.pid)
    assert listening.listening() == [] and not path.exists()


def test_tcp_needs_the_token(start: Callable[..., Running]) -> None:
    script = start(WORKBENCH_DEBUG="tcp")
    found = re.search(r"attach (tcp:\d+)  \(with WORKBENCH_DEBUG_TOKEN=(\S+) in", script.line)
    assert found is not None
    where, token = found.groups()
    assert len(token) >= 32
    for wrong in ("", "x", token[:-1], token + "x", "ü"):
        with pytest.raises(LaunchError, match="the token is not right"):
            DebugClient.attach(where, token=wrong)
    with DebugClient.attach(where, token=token) as client:
        assert client.wait_for_stop(PATIENCE).status is Status.STOPPED
    port = int(where.removeprefix("tcp:"))
    with socket.socket() as outside, pytest.raises(OSError):  # only on the loopback interface
        outside.settimeout(2)
        outside.connect((_own_address(), port))
    given = start(WORKBENCH_DEBUG="tcp", WORKBENCH_DEBUG_TOKEN="a secret of ours")
    assert "a secret of ours" not in given.line and "a secret" not in _command_line(given.pid)
    with DebugClient.attach(re.findall(r"tcp:\d+", given.line)[0], token="a secret of ours") as client:
        assert client.wait_for_stop(PATIENCE).status is Status.STOPPED


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("there is no other interface")
        found = str(probe.getsockname()[0])
    if found.startswith("127."):
        pytest.skip("there is no other interface")
    return found


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_forked_child_is_not_attached_to_and_takes_nothing_away(start: Callable[..., Running]) -> None:
    code = COUNTING.replace(
        "        time.sleep(0.005)\n",
        "        child = os.fork()\n"
        "        if not child:\n"
        "            session.run(more); session.run(more)\n"
        "            raise SystemExit(7)\n"
        "        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n",
    )
    script = start(code)
    for _ in range(2):
        with DebugClient.attach(script.pid) as client:
            client.wait_for_stop(PATIENCE)
            for _ in range(3):
                assert client.command("r", PATIENCE).ok  # children run in between
            assert client.command("detach", PATIENCE).ok
            client.wait_for_end(PATIENCE)  # the seat is free
    assert script.finish()[0].startswith("w ")


def test_the_environment_asks_in_vain_without_hurting_the_script(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    script = start(WORKBENCH_DEBUG=str(tmp_path / "no" / "such" / "directory"))
    assert "workbench: no debugger can be attached: " in script.line
    assert script.finish()[0].startswith("w ")
    for value in ("", "0"):
        quiet = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, engine; print('workbench' in sys.modules, engine.debug.__name__)",
            ],
            env={**os.environ, "WORKBENCH_DEBUG": value, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert (quiet.stdout, quiet.stderr) == ("False engine.debug\n", "")


# In this process.


@pytest.fixture
def listener(
    run_time: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[listening.Listener]:
    monkeypatch.setattr(doors, "GREET_SECONDS", PATIENCE)
    monkeypatch.setattr(listening, "_PROBE_SECONDS", PATIENCE)
    assert driver.installed() is None
    made = tf.debug.listen()  # type: ignore[attr-defined]
    assert capsys.readouterr().err == f"workbench: attach with: workbench attach {os.getpid()}\n"
    yield made
    tf.debug.stop_listening()  # type: ignore[attr-defined]
    assert eventually(lambda: driver.installed() is None)


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_nothing_is_installed_before_and_after(
    listener: listening.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tf.debug.listen() is listener  # type: ignore[attr-defined]
    assert driver.installed() is None and not listener.attached
    client = DebugClient.attach(listener.address)
    assert eventually(lambda: driver.installed() is not None) and listener.attached
    with monkeypatch.context() as patch, pytest.raises(LaunchError, match="another front end"):
        patch.setattr(doors, "SEAT_SECONDS", 0.05)
        DebugClient.attach(listener.address)
    assert [each.attached for each in listening.listening()] == [True]
    monkeypatch.setattr(AttachedProcess, "lives", lambda self: False)  # which nobody asks who leaves
    client.detach()
    assert eventually(lambda: driver.installed() is None and not listener.attached)
    client.wait_for_end(PATIENCE)
    assert client.snapshot.status is Status.DETACHED


def test_no_socket_is_there_that_nobody_listens_at(run_time: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken for one that a killed process has left, and be taken away."""
    really = os.link
    stale: list[bool] = []

    def link(made: Path, address: Path) -> None:
        stale.append(listening.is_stale(made) or address.exists())
        really(made, address)

    monkeypatch.setattr(os, "link", link)
    try:
        made = listening.listen()
        assert stale == [False] and made.path is not None
        assert list(made.path.parent.iterdir()) == [made.path]
    finally:
        listening.stop()


def test_who_comes_while_it_stops_listening_leaves_nothing_behind(
    listener: listening.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = driver.install

    def install(debugger: Any) -> None:
        listener.close()
        really(debugger)

    monkeypatch.setattr(driver, "install", install)
    monkeypatch.setattr("workbench.debugger.client._GOING_SECONDS", 0.0)
    client = DebugClient.attach(listener.address)
    assert client.wait_for_end(PATIENCE).status is Status.DETACHED
    assert eventually(lambda: driver.installed() is None and not listener.attached)


def test_a_path_is_taken_over_only_from_the_dead(run_time: Path) -> None:
    path = run_time / "mine"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    try:
        assert listening.listen(path).address == str(path)
        with pytest.raises(listening.ListenError, match="somebody listens"):
            listening._make_room(path)
        with pytest.raises(ValueError, match="not both"):
            listening.listen(path, tcp=1)
        with pytest.raises(listening.ListenError, match="bytes"):
            listening.listen(run_time / ("x" * 120))
        (run_time / "file").write_text("")
        with pytest.raises(listening.ListenError, match="no socket"):
            listening.listen(run_time / "file")
    finally:
        listening.stop()
    assert not path.exists()


def test_a_directory_that_others_can_change_is_not_used(run_time: Path) -> None:
    bad = run_time / "workbench"
    bad.mkdir(mode=0o755)
    bad.chmod(0o777)
    with pytest.raises(listening.ListenError, match="mode 700"):
        listening.listen()
    bad.rmdir()
    bad.symlink_to(run_time)
    with pytest.raises(listening.ListenError, match="mode 700"):
        listening.listen()


def test_another_debugger_is_not_pushed_aside(listener: listening.Listener) -> None:
    mine = driver.Sequential()
    driver.install(mine)
    try:
        client = DebugClient.attach(listener.address)
        final = client.wait_for_end(PATIENCE)
        assert final.status is Status.FAILED and final.error is not None
        assert "another debugger drives" in final.error.message
        assert driver.installed() is mine
    finally:
        driver.uninstall()


# Hostile front ends.

HOSTILE = [
    b"rubbish\n",
    b"[" * 60_000 + b"\n",
    b'{"type":"command","id":1}\n',
    b'{"type":"command","id":1e999,"line":"q"}\n',
    b'{"type":"command","id":"1","line":"q"}\n',
    b'{"type":"hello","version":1,"role":["front"]}\n',
    b"x" * 300_000,
    b'{"type":"snapshot"}\n',
    b"\x00\xff\n" * 100,
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


def _connect(address: str, greet: bool) -> tuple[socket.socket, Lines]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    connection.connect(address)
    lines = Lines(connection, 1 << 24)
    if greet:
        connection.sendall(pack(Hello(VERSION, "front")))
        assert isinstance(unpack(lines.read() or b"", (Hello, Reply)), Hello)
    return connection, lines


def _drain(connection: socket.socket, lines: Lines) -> list[Any]:
    """What is said until the other side ends the connection, which it has to do."""
    found = []
    try:
        while (line := lines.read()) is not None:
            found.append(unpack(line, (Hello, Reply, Snapshot)))
    except ConnectionError:  # it was closed with something in it that nobody had read
        pass
    connection.close()
    return found


@pytest.mark.parametrize("greet", [False, True])
@pytest.mark.parametrize("bad", HOSTILE)
def test_what_is_malformed_ends_its_connection_alone(
    bad: bytes, greet: bool, listener: listening.Listener
) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        total = tf.add(tf.constant(1.0), 2.0)
        connection, lines = _connect(listener.address, greet)
        with contextlib.suppress(OSError):
            connection.sendall(bad)
        said = _drain(connection, lines)
        assert all(not message.ok for message in said if isinstance(message, Reply))
        assert eventually(lambda: driver.installed() is None)
        assert session.run(total) == 3.0
    with DebugClient.attach(listener.address) as client:  # the next one is served
        assert client.command("h", PATIENCE).ok


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    greet=st.booleans(),
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=100),
            st.text(max_size=40).map(lambda line: pack(Command(1, line))),
            st.dictionaries(
                st.sampled_from(["type", "id", "line", "token", "version"]),
                st.integers() | st.text(max_size=9),
            ).map(lambda fields: repr(fields).encode() + b"\n"),
        ),
        max_size=6,
    ),
)
def test_noise_never_reaches_the_script(
    greet: bool, pieces: list[bytes], listener: listening.Listener
) -> None:
    connection, lines = _connect(listener.address, greet)
    try:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    _drain(connection, lines)
    assert eventually(lambda: driver.installed() is None and not listener.attached)


@pytest.fixture
def trickling(listener: listening.Listener) -> Iterator[Callable[[], tuple[socket.socket, Lines]]]:
    """Makes connections that say something all the time, and never come to an end."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def trickle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.02):
                connection.sendall(b" ")

    def begin() -> tuple[socket.socket, Lines]:
        connection, lines = _connect(listener.address, False)
        threads.append(threading.Thread(target=trickle, args=(connection,)))
        threads[-1].start()
        return connection, lines

    yield begin
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)


def test_who_dawdles_keeps_nobody_waiting(
    listener: listening.Listener, trickling: Callable[[], tuple[socket.socket, Lines]]
) -> None:
    slow = [trickling() for _ in range(5)]
    with DebugClient.attach(listener.address) as client:  # though five others have not finished
        assert client.command("h", PATIENCE).ok
    for connection, _ in slow:
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # it is being listened to still
            connection.recv(1)
        connection.close()


def test_who_dawdles_is_shown_out(
    listener: listening.Listener,
    trickling: Callable[[], tuple[socket.socket, Lines]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from workbench.debugger import conversation

    with monkeypatch.context() as patch:
        patch.setattr(doors, "GREET_SECONDS", 0.1)
        said = _drain(*trickling())
    assert isinstance(said[-1], Reply) and not said[-1].ok
    monkeypatch.setattr(conversation, "MESSAGE_SECONDS", 0.1)
    half, lines = _connect(listener.address, True)
    half.sendall(b'{"type":"command","id":1,')
    said = _drain(half, lines)
    assert isinstance(said[-1], Reply) and "does not end" in said[-1].text
    assert eventually(lambda: driver.installed() is None)


def test_a_front_that_is_cut_off_while_the_step_stands_lets_it_run_on(listener: listening.Listener) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        total = tf.add(tf.constant(1.0), 2.0)
        connection, lines = _connect(listener.address, True)
        assert eventually(lambda: driver.installed() is not None)
        values: list[Any] = []
        thread = threading.Thread(target=lambda: values.append(session.run(total)))
        thread.start()
        while True:
            snapshot = unpack(lines.read() or b"", (Snapshot,))
            if isinstance(snapshot, Snapshot) and snapshot.status is Status.STOPPED:
                break
        assert values == []
        connection.sendall(b"rubbish\n")
        thread.join(PATIENCE)
        connection.close()
        assert values == [3.0]
        assert driver.installed() is None


# The command line.


def workbench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workbench", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


def test_the_command_line_lists_attaches_and_leaves(
    start: Callable[..., Running], tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    def here(*arguments: str) -> Any:
        return run_python("-m", "workbench", *arguments)

    none = here("attach")
    assert none.returncode == 1 and "no script listens; start one with WORKBENCH_DEBUG=1" in none.stdout
    script = start()
    for _ in range(10):  # a script that is held up for two seconds is listed as one that does not answer
        listed = workbench("attach", WORKBENCH_DEBUG="1")  # which is meant for scripts, not for us
        if "counting0.py" in listed.stdout:
            break
    assert listed.returncode == 0 and listed.stderr == ""
    assert listed.stdout.split()[0] == str(script.pid) and "counting0.py" in listed.stdout
    commands = tmp_path / "commands"
    commands.write_text("n 2  # two nodes\ninfo ready\nset var w = 3e6\n")
    attached = here("attach", str(script.pid), "--script", str(commands))
    assert attached.returncode == 0, attached.stdout + attached.stderr
    assert "counting0.py" in attached.stdout.splitlines()[0]
    assert "#2  set var w = 3e+06" in attached.stdout
    assert "no more commands: detached; the script runs on" in attached.stdout
    assert float(script.process.communicate(timeout=PATIENCE)[0].split()[1]) >= 3_000_000
    gone = here("attach", str(script.pid), "--commands", "n")
    assert gone.returncode == 2 and "nobody listens at process" in gone.stderr
    assert "there is no command 'zzz'" in here("attach", "x", "--commands", "zzz").stderr


def test_step_takes_commands_from_a_file(
    write_script: Callable[..., Path], tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    script = write_script(
        "import engine as tf\nprint('gave', tf.Session().run(tf.add(tf.constant(1), 2, name='sum')))\n"
    )
    commands = tmp_path / "commands"
    commands.write_text("# what to do\nskip sum = 9; n 9\nc\n")
    done = workbench("step", "--script", str(commands), str(script), WORKBENCH_DEBUG="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gave 9" in done.stdout and "attach with" not in done.stderr
    both = run_python("-m", "workbench", "step", "--script", str(commands), "--commands", "n", str(script))
    assert both.returncode == 2 and "two ways to say the same" in both.stderr
    missing = run_python("-m", "workbench", "step", "--script", tmp_path / "none", script)
    assert missing.returncode == 2 and "cannot be read" in missing.stderr
