"""The protocol and the agent: what is well formed arrives, what is not closes the connection and does nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.debugger import queries
from workbench.debugger.agent import Agent
from workbench.debugger.conversation import Conversation
from workbench.debugger.core import Debugger
from workbench.debugger.pages import MAX_QUERY, MAX_ROWS, Page, Query, RowView
from workbench.debugger.plain import PlainError, decode
from workbench.debugger.protocol import (
    MAX_TO_AGENT,
    VERSION,
    Command,
    Hello,
    Lines,
    ProtocolError,
    Reply,
    pack,
    unpack,
)
from workbench.debugger.snapshot import Snapshot, Status, ValueSummary, from_dict, to_dict

ANY = (Hello, Command, Query, Reply, Page, Snapshot)


@pytest.mark.parametrize(
    "message",
    [
        Hello(1, "agent", 5, "ü.py"),
        Command(3, "b while/add if iteration >= 3"),
        Reply(3, False, "zwei\nZeilen \udce4 \x00 \u2028"),
        Snapshot(1, Status.STOPPED, "x.py", ("a",)),
        Query("rows", "", 5, 100, ("while/frame", "*"), 3, id=4),
        Page(4, True, rows=(RowView(0, "a", "Add", "root", tainted="#3"),), devices=("cpu:0",)),
    ],
)
def test_messages_survive_the_wire(message: Any) -> None:
    line = pack(message)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    back = unpack(line[:-1], ANY)
    if isinstance(message, Reply):  # a lone surrogate has no UTF-8; it becomes readable text
        assert (
            back == Reply(3, False, message.text.encode("utf-8", "backslashreplace").decode())
            or back == message
        )
    else:
        assert back == message


@given(st.binary(max_size=300))
def test_noise_is_a_protocol_error_and_nothing_else(noise: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(noise, ANY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)


@given(
    st.sampled_from(["hello", "command", "query", "reply", "page", "snapshot", "nothing"]),
    st.dictionaries(
        st.sampled_from(
            [
                "id",
                "line",
                "ok",
                "text",
                "version",
                "role",
                "serial",
                "status",
                "script",
                "ready",
                "next",
                "step",
                "kind",
                "start",
                "count",
                "folds",
                "rows",
                "detail",
                "reasoning",
                "races",
                "shown",
                "exploration",
            ]
        ),
        JSON,
    ),
)
def test_wrong_fields_are_a_protocol_error_or_fit(name: str, fields: dict[str, Any]) -> None:
    line = json.dumps({**fields, "type": name}).encode()
    try:
        message = unpack(line, ANY)
    except ProtocolError:
        return
    assert unpack(pack(message)[:-1], ANY) == message


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"type":"command","id":' + b"9" * 10_000 + b',"line":"n"}',
        b'{"type":"command","id":NaN,"line":"n"}',
        b'{"type":"command","id":true,"line":"n"}',
        b'{"type":"command","id":1.0,"line":"n"}',
        b'{"type":"command","id":1,"line":["n"]}',
        b'{"type":["command"],"id":1,"line":"n"}',
        b'{"type":"Command","id":1,"line":"n"}',
        b'{"type":"query","id":1}',
        b'{"type":"query","id":1,"kind":["rows"]}',
        b'{"type":"query","id":1,"kind":"rows","start":1.5}',
        b'{"type":"query","id":1,"kind":"rows","folds":"while"}',
        b'{"type":"page","id":1,"ok":true,"rows":[{"row":1}]}',
        b'"n"',
        b"",
        b"\xff\xfe",
    ],
)
def test_hostile_lines(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(line, ANY)


def test_a_message_that_is_not_for_this_side_is_refused() -> None:
    with pytest.raises(ProtocolError, match="reply"):
        unpack(pack(Reply(1, True, ""))[:-1], (Command,))


def test_lines_come_whole_whatever_the_pieces_and_have_a_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        lines = Lines(ours, 1000)
        for piece in (b"ab", b"c\nde", b"\n", b"\nf"):
            theirs.sendall(piece)
        assert [lines.read() for _ in range(3)] == [b"abc", b"de", b""]
        theirs.sendall(b"x" * 2000)
        with pytest.raises(ProtocolError, match="longer than 1000"):
            lines.read()
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"half")
        theirs.close()
        with pytest.raises(ProtocolError, match="broke off"):
            Lines(ours, 1000).read()


def test_decode_says_what_is_wrong_where() -> None:
    good = to_dict(Snapshot(1, Status.STOPPED, "x.py"))
    for change, says in (
        ({"status": "asleep"}, "Snapshot.status: 'asleep' is none of"),
        ({"ready": 3}, "Snapshot.ready: expected a list, got int"),
        ({"ready": [{"index": 0}]}, "Snapshot.ready[0].activation is missing"),
        ({"serial": "1"}, "Snapshot.serial: expected int, got str"),
        ({"can_undo": 1}, "Snapshot.can_undo: expected bool, got int"),
    ):
        with pytest.raises(PlainError) as caught:
            from_dict({**good, **change})
        assert says in str(caught.value)
    assert from_dict({**good, "from_the_future": 1}) == from_dict(good)
    assert (
        decode(ValueSummary, {"dtype": "f", "shape": [1], "text": "", "complete": True, "minimum": 1}).minimum
        == 1.0
    )


# The agent.


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path / "agent", script="x.py")
    yield made
    made.close()


_open: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    """Close the connections that a test made."""
    yield
    while _open:
        _open.pop().close()


class Peer:
    """A front end by hand."""

    def __init__(self, address: Path, greet: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _open.append(self.socket)
        self.socket.settimeout(100)
        self.socket.connect(str(address))
        self.lines = Lines(self.socket, 1 << 24)
        if greet:
            self.send(Hello(VERSION, "front"))
            assert isinstance(self.receive(), Hello)
            assert isinstance(self.receive(), Snapshot)

    def send(self, message: Any) -> None:
        self.socket.sendall(message if isinstance(message, bytes) else pack(message))

    def receive(self) -> Any:
        line = self.lines.read()
        return None if line is None else unpack(line, ANY)

    def ask(self, line: str, number: int = 1) -> Reply:
        self.send(Command(number, line))
        while True:
            message = self.receive()
            if isinstance(message, Reply):
                return message

    def rest(self) -> list[Any]:
        """All until the other side hangs up."""
        found = []
        try:
            while (message := self.receive()) is not None:
                found.append(message)
        except (ConnectionResetError, BrokenPipeError):
            pass
        return found


def test_the_socket_is_its_users_alone(agent: Agent, tmp_path: Path) -> None:
    mode = (tmp_path / "agent").stat().st_mode
    assert stat.S_ISSOCK(mode) and mode & 0o777 == 0o600


def test_the_agent_answers_what_needs_no_stopped_step(agent: Agent, tmp_path: Path) -> None:
    peer = Peer(tmp_path / "agent")
    assert peer.ask("b while/add if iteration >= 3") == Reply(
        1, True, "breakpoint 1 at while/add if iteration >= 3"
    )
    assert peer.ask("info breakpoints").text.split() == [
        "1",
        "while/add",
        "if",
        "iteration",
        ">=",
        "3",
        "0",
        "hits",
    ]
    assert peer.ask("nonsense") == Reply(1, False, "there is no command 'nonsense'; h lists all")
    assert not peer.ask("p x").ok
    assert peer.ask("d 1").ok and agent.debugger.breakpoints.views == ()


@pytest.mark.parametrize(
    "bad",
    [
        b"rubbish\n",
        b'{"type":"command","id":1}\n',
        pack(Reply(1, True, "")),
        pack(Hello(VERSION, "front")),
        b"x" * (MAX_TO_AGENT + 100_000),
        b"[" * 60_000 + b"\n",
    ],
)
def test_a_malformed_message_closes_the_connection_and_touches_nothing(
    bad: bytes, agent: Agent, tmp_path: Path
) -> None:
    peer = Peer(tmp_path / "agent")
    assert peer.ask("b keep").ok
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        peer.send(bad)
        rest = peer.rest()
    assert all(
        isinstance(message, Reply) and not message.ok and "connection closed" in message.text
        for message in rest
    )
    again = Peer(tmp_path / "agent")  # the next one is served
    assert "keep" in again.ask("info breakpoints").text


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", pack(Command(1, "q")), b"\n", b"{}\n"])
def test_who_does_not_say_hello_is_not_heard(first: bytes, agent: Agent, tmp_path: Path) -> None:
    peer = Peer(tmp_path / "agent", greet=False)
    peer.send(first)
    assert not any(isinstance(message, Snapshot) for message in peer.rest())
    assert not agent.connected.is_set()


def test_another_version_is_told_ours_and_hung_up_on(agent: Agent, tmp_path: Path) -> None:
    peer = Peer(tmp_path / "agent", greet=False)
    peer.send(Hello(VERSION + 1, "front"))
    (hello,) = peer.rest()
    assert hello == Hello(VERSION, "agent", os.getpid(), "x.py")


def test_a_query_without_a_step_is_answered_and_changes_nothing(agent: Agent, tmp_path: Path) -> None:
    peer = Peer(tmp_path / "agent")
    for query, says in (
        (Query("rows", count=10, id=1), "the script is running"),
        (Query("secrets", id=2), "'secrets' is no kind of query"),
        (Query("rows", start=-1, id=3), "begin at 0"),
        (Query("names", "x" * (MAX_QUERY + 1), id=4), "too long"),
        (Query("rows", count=1 << 60, id=5), "begin at 0"),
        (Query("execution", folds=("a",) * 1000, id=6), "too long"),
    ):
        peer.send(query)
        page = peer.receive()
        while not isinstance(page, Page):
            page = peer.receive()
        assert page.id == query.id and not page.ok and says in page.text
    assert peer.ask("h").ok


@given(
    kind=st.sampled_from(["rows", "marks", "execution", "ready", "node", "ask", "names", "check", "x"]),
    text=st.text(max_size=40)
    | st.sampled_from(
        [
            "why not sum",
            "races",
            "races show 1",
            "races show 0x1",
            "races show " + "9" * 30,
            "races show 0000000019",
            "races  show",
            "explore 3",
            "explore 0",
            "explore \u0663",
            "set",
            "sum = 2",
            "__import__('os')",
            "next = var('w')",
        ]
    ),
    start=st.integers(-3, 1 << 70),
    count=st.integers(-3, 1 << 70),
    folds=st.lists(st.text(max_size=5), max_size=3),
)
def test_fuzzed_queries_touch_nothing(
    stopped: Conversation, kind: str, text: str, start: int, count: int, folds: list[str]
) -> None:
    stepping = stopped.debugger.stepping
    assert stepping is not None
    before = (
        stepping.executed,
        [each.name for each in stepping.ready],
        len(stepping.history),
        len(stepping.future),
    )
    query = Query(kind, text, start, count, tuple(folds), id=7)
    page = queries.answer(stopped.debugger, stopped._paging, query)
    assert page.id == 7 and len(page.rows) <= MAX_ROWS
    assert unpack(pack(page)[:-1], (Page,)) == page
    assert before == (
        stepping.executed, [each.name for each in stepping.ready], len(stepping.history), len(stepping.future),
    )  # fmt: skip


@pytest.fixture(scope="module")
def stopped() -> Iterator[Conversation]:
    """A step that is stopped in its middle, in a thread of its own."""
    import engine as tf

    lines = ("r", "n 20", "back 2")
    done = threading.Event()

    class Heard(Conversation):
        asked = 0

        def command(self, debugger: Debugger) -> str:
            self.asked += 1
            if self.asked > len(lines):
                done.set()
            return super().command(debugger)

    conversation = Heard(script="x.py")

    def script() -> None:
        with tf.Graph().as_default(), conversation.debugger.installed():
            w = tf.Variable(1.0, name="w")
            total = tf.add(tf.while_loop(lambda i: i < 5, lambda i: i + 1, [tf.constant(0)]), 1, name="sum")
            more = tf.assign_add(w, 1.0, name="more")
            with tf.Session() as session:
                session.run(w.initializer)
                session.run([total, more])

    thread = threading.Thread(target=script)
    thread.start()
    commands = conversation._commands
    for number, line in enumerate(lines):
        commands.put(Command(number, line))
    assert done.wait(100)
    yield conversation
    conversation.release()
    thread.join(100)


@given(noise=st.lists(st.binary(max_size=200), max_size=5))
def test_fuzzed_connections_leave_the_agent_serving(
    noise: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _fuzz_agent(tmp_path_factory)
    peer = Peer(path, greet=len(noise) % 2 == 0)
    try:
        for piece in noise:
            peer.send(piece + b"\n")
        peer.socket.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    peer.rest()
    peer.socket.close()
    again = Peer(path)
    assert again.ask("h").ok
    again.socket.close()


_shared: list[tuple[Agent, Path]] = []


def _fuzz_agent(factory: pytest.TempPathFactory) -> Path:
    if not _shared:
        path = factory.mktemp("fuzz") / "agent"
        _shared.append((Agent(path, script="x.py"), path))
    return _shared[0][1]


@pytest.mark.usefixtures("as_written")
def test_a_stopped_step_is_driven_over_the_socket(agent: Agent, tmp_path: Path) -> None:
    import engine as tf

    values = []

    def script() -> None:
        with tf.Graph().as_default(), agent.debugger.installed():
            total = tf.add(tf.constant(1.0, name="one"), tf.constant(2.0, name="two"), name="sum")
            values.append(tf.Session().run(total))

    peer = Peer(tmp_path / "agent")
    thread = threading.Thread(target=script)
    thread.start()
    try:
        while (message := peer.receive()).status is not Status.STOPPED:
            pass
        assert message.next.node == "one"
        peer.send(Command(7, "n"))
        stopped, reply = peer.receive(), peer.receive()
        assert (
            isinstance(stopped, Snapshot)
            and stopped.last is not None
            and stopped.last.activation.node == "one"
        )
        assert reply == Reply(7, True, "")
        assert peer.ask("p one").text.endswith("one:0  float32[] 1.0")
        assert peer.ask("n 100").ok
        peer.send(Command(9, "c"))
    finally:
        thread.join(20)
    assert values == [3.0]
    agent.debugger.finish(None, 0)
    agent.finished()
    rest: list[Any] = []
    while not any(isinstance(message, Reply) and message.id == 9 for message in rest):
        rest.append(peer.receive())
    assert any(isinstance(message, Snapshot) and message.status is Status.FINISHED for message in rest)


def test_nothing_received_is_unpickled_or_evaluated() -> None:
    """The protocol is plain data: nothing in it imports pickle or evaluates."""
    folder = Path(__file__).resolve().parents[2] / "workbench" / "debugger"
    forbidden = re.compile(r"pickle\.|\beval\(|\bexec\(|marshal")
    assert [path.name for path in folder.glob("*.py") if forbidden.search(path.read_text())] == []
