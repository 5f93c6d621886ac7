"""A step's executions with those of each node as one, for readers that show one record a node."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from engine.observe import Executions

_NEVER = np.iinfo(np.int64).max


class Collapsed:
    """For each node and device, from the first start of its live executions to the last end.

    Batches may come in any number: what is kept is as large as the stage.  `nodes` is the stage's length.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._devices: dict[
            str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]
        ] = {}

    def add(self, batches: Iterable[Executions]) -> None:
        """Take these executions in."""
        for batch in batches:
            found = self._devices.get(batch.device)
            if found is None:
                starts = np.full(self._nodes, _NEVER)
                found = (starts, np.zeros(self._nodes, np.int64), np.zeros(self._nodes, np.int32))
                self._devices[batch.device] = found
            starts, ends, threads = found
            live = ~batch.dead
            node = batch.node[live]
            np.minimum.at(starts, node, batch.start_ns[live])
            np.maximum.at(ends, node, batch.end_ns[live])
            threads[node] = batch.thread[live]

    def executions(self) -> list[Executions]:
        """One execution a node and device, as if they were all."""
        found: list[Executions] = []
        first = 0
        for device, (starts, ends, threads) in self._devices.items():
            node = np.flatnonzero(starts != _NEVER)
            zeros = np.zeros(len(node), np.int64)
            found.append(
                Executions(
                    device=device,
                    first=first,
                    node=node.astype(np.int32),
                    frame=zeros.astype(np.int32),
                    iteration=zeros,
                    start_ns=starts[node],
                    end_ns=ends[node],
                    thread=threads[node],
                    dead=zeros.astype(np.bool_),
                )
            )
            first += len(node)
        return found
