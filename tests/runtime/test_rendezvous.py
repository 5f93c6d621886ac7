"""The rendezvous by itself: what is sent is taken once, whoever waits is told, and every change can be taken back."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import PATIENCE

from engine.runtime.frames import DEAD
from engine.runtime.rendezvous import Parcel, Rendezvous, make_key
from engine.runtime.resources import ResourceManager, Write
from engine.types import errors

KEYS = [make_key("a", 1, "b", f"edge_{i}_x") + "0:0" for i in range(4)]


def parcel(value: Any) -> Parcel:
    return Parcel(value, value is DEAD, 5, 4)


def test_a_key_names_both_ends_the_incarnation_and_the_tensor() -> None:
    key = make_key("/device:CPU:0", -1, "/device:CPU:1", "edge_3_x")
    assert key == "/device:CPU:0;ffffffffffffffff;/device:CPU:1;edge_3_x;"


def test_what_is_sent_is_taken_once() -> None:
    table, resources = Rendezvous("c"), ResourceManager()
    table.send(resources, KEYS[0], parcel(7))
    assert table.state().sent == ((KEYS[0], 5, 4, False),)
    assert table.recv(resources, KEYS[0])[0].token == 7
    assert table.state().sent == ()
    with pytest.raises(errors.InternalError, match="Nothing has been sent under the key a;"):
        table.recv(resources, KEYS[0])


def test_a_second_tensor_under_a_key_is_refused() -> None:
    table, resources = Rendezvous("c"), ResourceManager()
    table.send(resources, KEYS[0], parcel(7))
    with pytest.raises(errors.InternalError, match="sent twice under the key a;"):
        table.send(resources, KEYS[0], parcel(8))


def test_who_waits_is_told_when_it_comes_or_has_come() -> None:
    table, resources, told = Rendezvous("c"), ResourceManager(), []
    assert not table.recv_async(KEYS[0], lambda error: told.append((0, error)), 11)
    assert table.state().waiting == ((KEYS[0], 11),)
    table.send(resources, KEYS[0], parcel(DEAD))
    assert told == [(0, None)] and table.state().waiting == ()
    assert table.recv_async(KEYS[0], lambda error: told.append((1, error)))
    assert told[1:] == [(1, None)]
    assert table.recv(resources, KEYS[0])[0].dead


def test_an_abort_wakes_all_and_refuses_what_comes_later() -> None:
    table, resources, told = Rendezvous("c"), ResourceManager(), []
    table.recv_async(KEYS[0], told.append)
    table.recv_async(KEYS[1], told.append)
    error = errors.AbortedError(None, None, "enough")
    table.abort(error)
    table.abort(errors.AbortedError(None, None, "again"))
    assert told == [error, error]
    assert table.state() == ((), (), error)
    table.recv_async(KEYS[2], told.append)
    assert told == [error] * 3
    for act in (lambda: table.send(resources, KEYS[0], parcel(1)), lambda: table.recv(resources, KEYS[0])):
        with pytest.raises(errors.AbortedError, match="enough"):
            act()


def test_threads_that_send_and_take_meet_once_each() -> None:
    table, resources = Rendezvous("c"), ResourceManager()
    keys = [f"{key}:{i}" for key in KEYS for i in range(250)]
    taken: list[int] = []
    done = threading.Semaphore(0)

    def take(key: str) -> None:
        taken.append(table.recv(resources, key)[0].token)
        done.release()

    def wait() -> None:
        for key in keys:
            table.recv_async(key, lambda error, key=key: take(key))

    def send() -> None:
        for number, key in enumerate(keys):
            table.send(resources, key, parcel(number))

    threads = [threading.Thread(target=wait), threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in keys:
        assert done.acquire(timeout=PATIENCE)
    assert sorted(taken) == list(range(len(keys)))
    assert table.state().sent == table.state().waiting == ()


@given(
    st.lists(st.tuples(st.sampled_from(["send", "recv", "undo"]), st.sampled_from(KEYS), st.integers(0, 9)))
)
@settings(max_examples=100)
def test_undoing_restores_every_earlier_table(actions: list[tuple[str, str, int]]) -> None:
    table, resources = Rendezvous("c"), ResourceManager()
    model: dict[str, int] = {}
    past: list[tuple[Write, dict[str, int], int]] = []
    for action, key, value in actions:
        before = (dict(model), table.version)
        if action == "send" and key not in model:
            past.append((table.send(resources, key, parcel(value)), *before))
            model[key] = value
        elif action == "recv" and key in model:
            found, write = table.recv(resources, key)
            assert found.token == model.pop(key)
            past.append((write, *before))
        elif action == "undo" and past:
            write, model, version = past.pop()
            resources.undo(write)
            assert table.version == version
        assert {key: each.token for key, each in table.value.items()} == model
