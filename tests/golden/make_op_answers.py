"""TensorFlow's answers to the samples of every op, and its gradients: makes `op_answers.npz`.

    python tests/golden/make_op_answers.py --tf /path/to/python/with/tensorflow

Our side writes, for each op and dtype, a GraphDef with all samples as nodes and what to feed; the other Python imports and runs
them with `tf.compat.v1` on the CPU.  Nothing of ours runs there, and nothing of TensorFlow here.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ANSWERS = Path(__file__).with_name("op_answers.npz")


def portable(array: Any) -> Any:
    """bfloat16 as the bits of it: the other process may have another package for it."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


# Our side.


def write_question(case: Any, folder: Path) -> None:
    """The graph of all samples of one op and dtype, and what to feed and fetch."""
    from op_cases import GRADIENTS, build, checked_inputs, differentiable, digest, flat, placeholders, weights

    import engine as tf
    from engine.op.samples import Sample

    questions = []
    with tf.Graph().as_default() as graph:
        built = []
        for number, sample in enumerate(case.samples()):
            with tf.name_scope(f"sample_{number}"):
                inputs = placeholders(flat(sample))
                built.append((sample, inputs, build(case, sample, inputs)))
        with tf.Session(graph=graph) as session, np.errstate(all="ignore"):
            for number, (sample, inputs, outputs) in enumerate(built):
                arrays = flat(sample)
                feeds = dict(zip(inputs, arrays))
                flowing = [t for t in outputs if differentiable(t.dtype)]
                values = session.run(flowing, feeds)
                chosen = (
                    checked_inputs(Sample(*sample.inputs)) if case.dtype_name in GRADIENTS and flowing else []
                )
                starts = weights(case, number, [np.shape(v) for v in values], [t.dtype for t in flowing])
                questions.append(
                    {
                        "digest": digest(arrays),
                        "scope": f"sample_{number}/",
                        "feeds": [(t.name, t.dtype.name, portable(a)) for t, a in zip(inputs, arrays)],
                        "outputs": [t.name for t in outputs],
                        "flowing": [t.name for t in flowing],
                        "starts": [(t.dtype.name, portable(w)) for t, w in zip(flowing, starts)],
                        "chosen": [inputs[i].name for i in chosen],
                    }
                )
        graph_def = graph.as_graph_def().SerializeToString()
    (folder / f"{case}.question").write_bytes(pickle.dumps((graph_def, questions)))


# TensorFlow's side.


def answer(tf: Any, path: Path) -> list[dict[str, Any]]:
    """For each sample: the outputs and gradients, or the error."""
    graph_def, questions = pickle.loads(path.read_bytes())
    whole = tf.GraphDef.FromString(graph_def)
    if len(questions) > 1:
        try:
            return answer_together(tf, whole, questions)
        except (ValueError, tf.errors.OpError):
            pass  # TensorFlow refuses to import one of the nodes: each sample for itself
    answers = []
    for question in questions:
        nodes = [node for node in whole.node if node.name.startswith(question["scope"])]
        try:
            answers.extend(answer_together(tf, tf.GraphDef(node=nodes, versions=whole.versions), [question]))
        except (ValueError, tf.errors.OpError) as error:
            answers.append({"digest": question["digest"], "error": f"not imported: {str(error)[:120]}"})
    return answers


def answer_together(tf: Any, message: Any, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def native(dtype: str, array: Any) -> Any:
        return array.view(tf.bfloat16.as_numpy_dtype) if dtype == "bfloat16" else array

    answers: list[dict[str, Any]] = []
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(message, name="")
        fetches = []
        feeds: dict[str, Any] = {}
        for question in questions:
            feeds.update({name: native(dtype, array) for name, dtype, array in question["feeds"]})
            wanted: dict[str, Any] = {"outputs": question["outputs"]}
            if question["chosen"]:
                starts = [tf.constant(native(dtype, array)) for dtype, array in question["starts"]]
                try:
                    found = tf.gradients(
                        [graph.get_tensor_by_name(name) for name in question["flowing"]],
                        [graph.get_tensor_by_name(name) for name in question["chosen"]],
                        starts,
                    )
                    dense = [None if g is None else tf.convert_to_tensor(g) for g in found]
                    wanted["gradients"] = [g for g in dense if g is not None]
                    wanted["connected"] = [g is not None for g in dense]
                except (LookupError, NotImplementedError, TypeError, ValueError) as error:
                    wanted["gradient_error"] = _reason(error)
            fetches.append(wanted)
        with tf.Session(graph=graph) as session:
            kept = [{k: v for k, v in each.items() if k in ("outputs", "gradients")} for each in fetches]
            try:
                results: list[Any] = session.run(kept, feeds)
            except tf.errors.OpError:
                results = [_one(tf, session, each, feeds) for each in kept]
    for question, wanted, result in zip(questions, fetches, results):
        answers.append(
            {"digest": question["digest"], **{k: v for k, v in wanted.items() if k not in result}, **result}
        )
    return answers


def _reason(error: Any) -> str:
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
    told = [
        line
        for line in lines
        if line and not line.startswith(("Graph execution error", "Detected at", "File ", "Node:"))
    ]
    return f"{type(error).__name__}: {next((line for line in told if 'OpKernel' in line), told[0])[:120]}"


def _one(tf: Any, session: Any, fetches: dict[str, Any], feeds: dict[str, Any]) -> dict[str, Any]:
    """One sample alone: its outputs with the gradients, or without, or the error."""
    result: dict[str, Any] = {}
    for key, tensors in fetches.items():
        try:
            result[key] = session.run(tensors, feeds)
        except tf.errors.OpError as error:
            result[key] = []
            result["error" if key == "outputs" else "gradient_error"] = _reason(error)
    return result


def unanswered(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.question")) if not path.with_suffix(".answer").exists()]


def answer_all(folder: Path) -> None:
    """Run in the Python that has TensorFlow."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    import tensorflow.compat.v1 as tf  # type: ignore[import-not-found]

    tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.ERROR)
    for path in unanswered(folder):
        answers = answer(tf, path)
        for each in answers:
            for key in ("outputs", "gradients"):
                each[key] = [_described(value) for value in each.get(key, [])]
            each.pop("connected", None) if "gradient_error" in each else None
        path.with_suffix(".answer").write_bytes(pickle.dumps((tf.__version__, answers)))


def _described(value: Any) -> tuple[str, Any]:
    array = np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
    return array.dtype.name, portable(array)


def isolate(fatal: Path) -> None:
    """Some kernels abort the process.  Ask again for each sample alone; TensorFlow has no answer to the one that kills it."""
    graph_def, questions = pickle.loads(fatal.read_bytes())
    fatal.unlink()
    if len(questions) == 1:
        print(f"TensorFlow died on {fatal.stem}")
        died = {"digest": questions[0]["digest"], "error": "aborted", "outputs": [], "gradients": []}
        fatal.with_suffix(".answer").write_bytes(pickle.dumps(("", [died])))
        return
    for number, question in enumerate(questions):
        fatal.with_name(f"{fatal.stem}~{number:03}.question").write_bytes(
            pickle.dumps((graph_def, [question]))
        )


# Putting the answers away.


def store(folder: Path, known: Any = None) -> None:
    """All answers in one file: an index, and for each dtype one array with all the numbers in the order of the index.

    Of integers, bools and strings only a digest is kept: there ours must be equal, not near.  `known` are the contents of an
    earlier file, to which what is new is added.
    """
    from op_cases import digest

    index: dict[str, Any] = {}
    numbers: dict[str, list[Any]] = {}
    version = ""
    if known is not None:
        earlier = json.loads(known.pop("index").tobytes())
        index, version = earlier["cases"], earlier["tensorflow"]
        numbers = {dtype: [array] for dtype, array in known.items()}
    for path in sorted(folder.glob("*.answer")):
        found, answers = pickle.loads(path.read_bytes())
        version = found or version
        rows = []
        for each in answers:
            row: dict[str, Any] = {"digest": each["digest"]}
            for key in ("error", "gradient_error", "connected"):
                if key in each:
                    row[key] = each[key]
            for key in ("outputs", "gradients"):
                row[key] = []
                for dtype, array in each[key]:
                    if dtype.startswith(("float", "bfloat", "complex")):
                        row[key].append([dtype, list(array.shape)])
                        numbers.setdefault(dtype, []).append(np.ravel(array))
                    else:
                        row[key].append([dtype, list(array.shape), digest([array])])
            rows.append(row)
        index.setdefault(path.stem.partition("~")[0], []).extend(rows)
    text = json.dumps({"tensorflow": version, "cases": index}, separators=(",", ":"))
    arrays = {dtype: np.concatenate(parts) for dtype, parts in sorted(numbers.items())}
    np.savez_compressed(ANSWERS, index=np.frombuffer(text.encode(), np.uint8), **arrays)
    print(f"{ANSWERS}: {len(index)} cases, {ANSWERS.stat().st_size / 1e6:.1f} MB, TensorFlow {version}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tf", help="the Python that has TensorFlow")
    parser.add_argument("--only", nargs="*", help="op types, for a trial that is not stored")
    parser.add_argument(
        "--add", nargs="*", help="op types that have no answers yet: those that there are stay"
    )
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer is not None:
        answer_all(options.answer)
        return
    if options.tf is None:
        parser.error("--tf is needed")
    root = Path(__file__).parents[2]
    sys.path[:0] = [str(root), str(root / "tests" / "support")]
    from op_cases import NOT_ASKED, cases

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for case in cases():
            if (
                not case.opdef.stateful
                and case.op_type not in NOT_ASKED
                and (not (options.only or options.add) or case.op_type in (options.only or options.add))
                and case.samples()
            ):
                write_question(case, folder)
        while subprocess.run([options.tf, __file__, "--answer", str(folder)], check=False).returncode:
            isolate(unanswered(folder)[0])
        if options.only:
            for path in sorted(folder.glob("*.answer")):
                print(path.stem, pickle.loads(path.read_bytes()))
        elif options.add:
            with np.load(ANSWERS) as stored:
                store(folder, {name: stored[name] for name in stored.files})
        else:
            store(folder)


if __name__ == "__main__":
    main()
