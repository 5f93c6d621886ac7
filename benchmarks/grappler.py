"""How many nodes our passes leave of real graphs, beside what TensorFlow's Grappler leaves of the same GraphDefs.

    python -m benchmarks.grappler                                   # the table, from the recorded counts of Grappler
    /path/to/python/with/tensorflow benchmarks/grappler.py record   # makes tests/golden/grappler.json; nothing of ours runs

The graphs are those of `tests/golden/tf_graphs`; of each, the run that needs the most nodes.  Counted are the nodes between feeds
and fetches: neither fed placeholders nor our `_Arg` and `_Retval`.  Grappler runs once with each optimizer alone (one iteration),
and once as it does by default (two iterations of all), always for a CPU and with graphs of any size.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GRAPHS = ROOT / "tests" / "golden" / "tf_graphs"
RECORDED = ROOT / "tests" / "golden" / "grappler.json"

# Our passes, and the optimizer of Grappler that does the like.
ALIKE = {
    "fold": "constfold",
    "arithmetic": "arithmetic",
    "branches": "loop",
    "invariants": "loop",
    "cse": "common_subgraph_elimination",
    "dependencies": "dependency",
    "remap": "remap",
    "fuse": "",
}


def longest_run(folder: Path, needed: Any) -> tuple[int, dict[str, Any]]:
    """The run of a model for which `needed(run)` is greatest, the first of equals."""
    runs = json.loads((folder / "runs.json").read_text())
    number = max(range(len(runs)), key=lambda i: (needed(runs[i]), -i))
    return number, runs[number]


# Grappler's counts.


def record() -> None:
    """Make `tests/golden/grappler.json`."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    import tensorflow.compat.v1 as tf  # type: ignore[import-not-found]

    tf.disable_v2_behavior()
    found = {
        "tensorflow": tf.version.VERSION,
        "models": {
            folder.name: _record(tf, folder) for folder in sorted(GRAPHS.iterdir()) if folder.is_dir()
        },
    }
    RECORDED.write_text(json.dumps(found, indent=1) + "\n")


def _record(tf: Any, folder: Path) -> dict[str, Any]:
    graph = tf.GraphDef.FromString((folder / "graph.pb").read_bytes())

    def pruned(run: dict[str, Any]) -> Any:
        # As a session prunes: fed nodes stay, without what they need.
        fed = {feed.partition(":")[0] for feed in run["feeds"]}
        cut = tf.GraphDef()
        cut.CopyFrom(graph)
        for node in cut.node:
            if node.name in fed:
                del node.input[:]
        wanted = [name.partition(":")[0] for name in (*run["fetches"], *run["targets"])]
        return tf.graph_util.extract_sub_graph(cut, wanted)

    number, run = longest_run(folder, lambda each: len(pruned(each).node))
    fed = {feed.partition(":")[0] for feed in run["feeds"]}

    def count(*optimizers: str) -> dict[str, int]:
        left = [node for node in _optimized(pruned(run), run, optimizers).node if node.name not in fed]
        return {"nodes": len(left), "fused": sum(node.op.startswith("_Fused") for node in left)}

    before = sum(node.name not in fed for node in pruned(run).node)
    alone = {name: count(name)["nodes"] for name in sorted({*ALIKE.values()} - {""})}
    every = count()
    return {"run": number, "pruned": before, "alone": alone, "all": every["nodes"], "fused": every["fused"]}


def _optimized(graph: Any, run: dict[str, Any], optimizers: tuple[str, ...]) -> Any:
    from tensorflow.core.protobuf import (  # type: ignore[import-not-found]
        config_pb2,
        meta_graph_pb2,
        rewriter_config_pb2,
    )
    from tensorflow.python.grappler import tf_optimizer  # type: ignore[import-not-found]

    config = config_pb2.ConfigProto()
    rewriter = config.graph_options.rewrite_options
    rewriter.min_graph_nodes = -1
    rewriter.fail_on_optimizer_errors = True
    if optimizers:
        rewriter.optimizers.extend(optimizers)
        rewriter.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    meta = meta_graph_pb2.MetaGraphDef()
    meta.graph_def.CopyFrom(graph)
    for node in meta.graph_def.node:  # a session places its graph first, and some optimizers look
        node.device = "/job:localhost/replica:0/task:0/device:CPU:0"
    kept = (*run["fetches"], *run["targets"], *run["feeds"])
    meta.collection_def["train_op"].node_list.value.extend(name.partition(":")[0] for name in kept)
    return tf_optimizer.OptimizeGraph(config, meta, verbose=False)


# Ours.


def stages(name: str) -> tuple[Any, dict[str, Any]]:
    """The pruned stage of a model's longest run, and that run."""
    import engine as tf
    from engine.graph.graphdef import read_graph
    from engine.passes.build import Builder
    from engine.passes.prune import prune

    run = json.loads((GRAPHS / name / "runs.json").read_text())[recorded()["models"][name]["run"]]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(read_graph(GRAPHS / name / "graph.pb"), name="")
    return prune(Builder(graph).stage(), run["feeds"], run["fetches"], run["targets"]), run


def ours(name: str) -> dict[str, Any]:
    """Counts like Grappler's: after each pass alone, after all of them but `fuse`, which Grappler has none of, and after all."""
    from engine.passes.pipeline import PASSES, optimize
    from engine.passes.settings import RewriterConfig, Settings

    stage, _ = stages(name)

    def count(**rewriter: Any) -> int:
        left = optimize(stage, Settings(rewriter=RewriterConfig(**rewriter)))
        return sum(node.type not in ("_Arg", "_Retval") for node in left)

    rows = [row.name for row in PASSES if row.name in ALIKE]
    return {
        "pruned": count(disable_meta_optimizer=True),
        "alone": {row: count(disable_meta_optimizer=True, passes={row: True}) for row in rows},
        "unfused": count(passes={"fuse": False}),
        "all": count(),
    }


def recorded() -> dict[str, Any]:
    """What `record` wrote."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def table() -> Iterator[str]:
    """The comparison in Markdown; ``a / b`` is ours and Grappler's."""
    theirs = recorded()["models"]
    counts = {name: ours(name) for name in theirs}
    passes = list(next(iter(counts.values()))["alone"])
    yield "| model | pruned | " + " | ".join(passes) + " | all but fuse | all |"
    yield "|---" * (len(passes) + 4) + "|"
    for name, mine in counts.items():
        their = theirs[name]
        cells = [f"{mine['pruned']} / {their['pruned']}"]
        for row in passes:
            alike = ALIKE[row]
            cells.append(
                f"{mine['alone'][row]} / {their['alone'][alike]}" if alike else str(mine["alone"][row])
            )
        cells += [f"**{mine['unfused']}** / **{their['all']}**", str(mine["all"])]
        yield f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    if sys.argv[1:] == ["record"]:
        record()
    else:
        print("\n".join(table()))
