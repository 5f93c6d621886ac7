"""What cannot be taken back: the nodes whose kernels do something outside of the engine, and in words what of it stays."""

from __future__ import annotations

from engine.runtime.program import Item

EFFECTS: dict[str, str] = {
    "Print": "it printed",
    "PrintV2": "it printed",
    "PyFunc": "it called a Python function",
    "PyFuncStateless": "it called a Python function",
    "EagerPyFunc": "it called a Python function",
    "WriteFile": "it wrote a file",
    "Save": "it wrote a checkpoint",
    "SaveSlices": "it wrote a checkpoint",
    "SaveV2": "it wrote a checkpoint",
    "MergeV2Checkpoints": "it moved the files of a checkpoint",
    "CreateSummaryFileWriter": "it opened an event file",
    "WriteSummary": "it wrote to an event file",
    "WriteScalarSummary": "it wrote to an event file",
    "WriteHistogramSummary": "it wrote to an event file",
    "WriteImageSummary": "it wrote to an event file",
    "WriteAudioSummary": "it wrote to an event file",
    "WriteGraphSummary": "it wrote to an event file",
    "FlushSummaryWriter": "it wrote to an event file",
    "CloseSummaryWriter": "it closed an event file",
    "ReaderReadV2": "it read on in a file",
    "ReaderReadUpToV2": "it read on in a file",
}


def effect_of(item: Item) -> str:
    """What stays of an execution of `item` when it is taken back: ``it printed``; empty where nothing does."""
    return EFFECTS.get(item.node.type, "")
