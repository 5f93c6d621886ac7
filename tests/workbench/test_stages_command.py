"""``workbench stages`` and ``workbench place``: what they print of scripts and runs, and what they say to bad input."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Write = Callable[..., Path]

SCRIPT = """
import sys
import engine as tf

print("noise on standard output")
x = tf.placeholder(tf.float32, [None, 8], name="x")
with tf.device("/CPU:0"):
    w = tf.Variable(tf.ones([8, 8]), name="w")
    h = tf.nn.relu(tf.matmul(x, w) * 1.0, name="h")
with tf.device("/CPU:1"):
    y = tf.reduce_sum(tf.matmul(h, tf.ones([8, 8]) * 3.0), name="y")
init = tf.global_variables_initializer()
config = tf.ConfigProto(device_count={"CPU": 2})
with tf.Session(config=config) as session:
    session.run(init)
    for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 2):
        print("ran", session.run(y, {x: [[1.0] * 8]}))
"""


@pytest.fixture
def script(write_script: Write) -> Path:
    return write_script(SCRIPT)


@pytest.fixture
def workbench(run_python: Run, tmp_path: Path) -> Run:
    """Runs the command in an empty directory."""
    return lambda *arguments, **options: run_python("-m", "workbench", *arguments, cwd=tmp_path, **options)


def test_stages_of_a_script(workbench: Run, script: Path, tmp_path: Path) -> None:
    done = workbench("stages", script)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in done.stdout and "noise" not in done.stdout
    assert lines[0].startswith("script.py  what the script's first Session.run with a value fetches")
    assert "fetches  y:0" in lines and "fed      x:0" in lines
    stages = [
        line.split()[0]
        for line in lines
        if line[:1].isalpha() and line.split()[1:2] and line.split()[1].isdigit()
    ]
    assert stages[:2] == ["built", "pruned"] and stages[-2:] == ["placed", "partitioned"]
    assert "no fetch or target needs it" in done.stdout and "Cuts the edges between devices" in done.stdout
    assert not list(tmp_path.glob("runs"))  # nothing was run, nothing recorded


def test_stages_as_json_name_every_change_with_reason_and_line(workbench: Run, script: Path) -> None:
    made = json.loads(workbench("stages", script, "--json").stdout)
    assert made["fetches"] == ["y:0"] and made["feeds"] == ["x:0"]
    by_name = {stage["name"]: stage for stage in made["stages"]}
    pruned = by_name["pruned"]
    (change,) = [each for each in pruned["changes"] if each["name"] == "init"]
    assert change["changes"] == ["removed"] and change["reasons"][0]["text"] == "no fetch or target needs it"
    assert change["file"].endswith("script.py") and change["source"].startswith("init = tf.global_variables")
    nodes = len_before = by_name["built"]["nodes"]
    for stage in made["stages"][1:]:
        counts = stage["counts"]
        nodes += counts["added"] - counts["removed"] - counts["merged"]
        assert stage["nodes"] == nodes
    assert len_before > by_name["placed"]["nodes"]
    placement = {row["node"]: row for row in made["placement"]}
    assert placement["h"]["device"].endswith("CPU:0") and placement["h"]["reason"]


def test_a_difference_and_a_node(workbench: Run, script: Path) -> None:
    made = json.loads(workbench("stages", script, "--json", "--diff", "placed", "partitioned").stdout)["diff"]
    assert made["before"] == "placed" and made["counts"]["added"] >= 2
    assert {change["type"] for change in made["changes"] if change["changes"] == ["added"]} >= {
        "_Send",
        "_Recv",
    }
    text = workbench(
        "stages", script, "--diff", "partitioned", "built"
    ).stdout  # the earlier one first all the same
    assert "built → partitioned" in text and "script.py:" in text
    shown = workbench("stages", script, "--node", "h")
    assert shown.returncode == 0 and "possible    CPU:0" in shown.stdout and "asked for" in shown.stdout
    found = json.loads(workbench("stages", script, "--node", "x", "--json").stdout)["node"]
    assert [row["stage"] for row in found["history"]][:2] == ["built", "pruned"]
    assert found["history"][1]["names"] == ["_arg_x_0_0"]


def test_fetch_chooses_and_placeholders_are_fed(workbench: Run, script: Path) -> None:
    made = json.loads(workbench("stages", script, "--fetch", "h", "--json").stdout)
    assert made["fetches"] == ["h:0"] and made["feeds"] == ["x:0"] and made["chosen"] == "what --fetch names"
    made = json.loads(workbench("stages", script, "--fetch", "init", "--json").stdout)
    assert made["targets"] == ["init"] and made["feeds"] == []
    made = json.loads(workbench("stages", script, "--fetch", "y", "--feed", "h:0", "--json").stdout)
    assert made["feeds"] == ["h:0"] and "x" not in str(made["placement"])


def test_a_script_that_only_builds_a_graph(workbench: Run, write_script: Write) -> None:
    path = write_script(
        "import engine as tf\na = tf.constant(2.0, name='a')\ntf.sqrt(a, name='b')\ntf.negative(a, name='c')\n"
    )
    made = json.loads(workbench("stages", path, "--json").stdout)
    assert (
        "never calls Session.run" in made["chosen"]
        and made["fetches"] == []
        and set(made["targets"]) == {"b", "c"}
    )


def test_a_recorded_run_gives_the_same_chain(workbench: Run, script: Path) -> None:
    assert workbench("run", script, "3").returncode == 0
    recorded = json.loads(workbench("stages", "latest", "--json").stdout)
    asked = json.loads(workbench("stages", script, "--json").stdout)
    assert recorded["chosen"] == "what 3 of 4 recorded steps ran"
    assert [(each["name"], each["nodes"]) for each in recorded["stages"]] == [
        (each["name"], each["nodes"]) for each in asked["stages"]
    ]
    assert recorded["placement"] == asked["placement"]
    wrong = workbench("stages", "latest", "--fetch", "h")
    assert wrong.returncode == 2 and "no step of the run fetches 'h'; the names: init, y:0" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fetch", "yy"], "--fetch yy: there is no node 'yy' in the graph; did you mean 'y' or"),
        (["--fetch", "y:4"], "--fetch y:4: 'y' has no such output; its outputs: y:0"),
        (["--fetch", "y", "--feed", "init"], "'init' has no output, so there is nothing to feed"),
        (["--diff", "built", "plced"], "there is no stage 'plced'; did you mean 'placed'"),
        (["--node", "w/reed"], "there is no node 'w/reed'; did you mean 'w/read'"),
        (["--node", "h", "--diff", "built", "pruned"], "--diff and --node are two different questions"),
    ],
)
def test_bad_questions(workbench: Run, script: Path, arguments: list[str], says: str) -> None:
    done = workbench("stages", script, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert says in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr


def test_scripts_that_give_no_answer(workbench: Run, write_script: Write) -> None:
    done = workbench(
        "stages", write_script("import engine as tf\nprint('so far')\nraise KeyError('oh')\n", "fails.py")
    )
    assert done.returncode == 2 and "KeyError: 'oh'" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "fails.py exited with status 1 before it could say what it runs"
    )
    done = workbench("stages", write_script("print(1)\n", "empty.py"))
    assert done.returncode == 2 and "made no operation in the default graph" in done.stderr
    assert workbench("stages", "nowhere.py").stderr == "workbench: there is no script nowhere.py\n"
    impossible = write_script(
        "import engine as tf\nwith tf.device('/GPU:7'):\n    a = tf.constant(1.0) + 1.0\ntf.Session().run(a)\n",
        "gpu.py",
    )
    done = workbench("stages", impossible)
    assert done.returncode == 2 and "GPU:7" in done.stderr and "Traceback" not in done.stderr


# Placing.


def test_place_predicts_several_placements(workbench: Run, script: Path) -> None:
    done = workbench("place", script, "--simulate", "--devices", "CPU:2,GPU:1(modelled)")
    assert done.returncode == 0 and done.stderr == "" and max(map(len, done.stdout.splitlines())) <= 80
    assert "simple, predicted" in done.stdout and "greedy, predicted" in done.stdout
    assert "modelled GPU" in done.stdout and "GPU:0*" in done.stdout
    made = json.loads(workbench("place", script, "--simulate", "--json").stdout)
    assert [row["placement"] for row in made["placements"]] == ["simple", "greedy"]
    assert [device["name"][-5:] for device in made["devices"]] == ["CPU:0", "CPU:1"]  # the session's own
    for row in made["placements"]:
        assert row["makespan_ns"] == max(span["end_ns"] for span in row["spans"])
        on = {each["node"]: each["device"] for each in row["decisions"]}
        assert on["h"].endswith("CPU:0") and on["y"].endswith("CPU:1")
        assert row["moved_bytes"] == sum(move["nbytes"] for move in row["transfers"]) > 0


def test_place_with_measured_costs(workbench: Run, script: Path) -> None:
    workbench("run", script, "4")
    done = workbench("place", script, "--simulate", "--costs", "latest", "--placement", "simple")
    assert done.returncode == 0 and "measured: run script" in done.stdout
    assert "predicted beside measured" in done.stdout and "\nmeasured  " in done.stdout
    made = json.loads(workbench("place", "latest", "--simulate", "--costs", "latest", "--json").stdout)
    assert made["measured"] and all(row["compared"] for row in made["placements"])
    durations = {}
    for each in made["measured"]:
        durations.setdefault(each["node"], each["end_ns"] - each["start_ns"])
    (span,) = [each for each in made["placements"][0]["spans"] if each["node"] == "h"]
    assert 0 < span["end_ns"] - span["start_ns"] < 50 * durations["h"] + 1e6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "add --simulate"),
        (
            ["--simulate", "--devices", "TPU:2"],
            "device_count asks for devices of type 'TPU', which is none of CPU, GPU",
        ),
        (["--simulate", "--devices", "two"], "'TWO'"),
        (["--simulate", "--devices", "CPU:x"], "'CPU:x' is no kind of device and number"),
        (["--simulate", "--placement", "gready"], "there is no placement 'gready'; did you mean 'greedy'"),
        (["--simulate", "--devices", "CPU:1"], "CPU:1"),
        (["--simulate", "--costs", "nothing"], "there are no runs in ./runs"),
    ],
)
def test_bad_placements(workbench: Run, script: Path, arguments: list[str], says: str) -> None:
    done = workbench("place", script, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert says in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr


def test_a_run_of_another_graph_says_nothing_of_costs(
    workbench: Run, script: Path, write_script: Write
) -> None:
    other = write_script(
        "import engine as tf\nprint(tf.Session().run(tf.random_uniform([], name='other')))\n", "other.py"
    )
    workbench("run", other)
    done = workbench("place", script, "--simulate", "--costs", "latest")
    assert done.returncode == 2 and "no step of run other has a node of this graph" in done.stderr
