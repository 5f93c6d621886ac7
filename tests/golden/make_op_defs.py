"""Makes op_defs.pb.xz: the definitions of every op that TensorFlow has, as an OpList.  Run with TensorFlow's Python."""

from __future__ import annotations

import lzma
import pathlib

from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session


def main() -> None:
    data = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    ops = op_def_pb2.OpList.FromString(data)
    for op in ops.op:
        op.ClearField("description")
        op.ClearField("summary")
    path = pathlib.Path(__file__).with_name("op_defs.pb.xz")
    path.write_bytes(lzma.compress(ops.SerializeToString(deterministic=True), preset=9))


main()
