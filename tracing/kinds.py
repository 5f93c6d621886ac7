"""What a kind of batch is, and texts in columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Columns = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of batch is stored: `write` joins batches into columns, `read` joins such columns into one batch.

    `read` raises ColumnsError, LookupError, ValueError or TypeError for columns that it did not write.

    varying: the columns that differ from step to step, where the others do not as a rule (None: all do, as a rule).
    pattern: what stands for all other columns of a batch, if something does; `own` are the varying ones of such a batch.
    """

    name: str
    write: Callable[[Sequence[Any]], Columns]
    read: Callable[[Sequence[Columns]], Any]
    varying: frozenset[str] | None = None
    pattern: Callable[[Any], Any] | None = None
    own: Callable[[Any], Columns] | None = None


def pattern_of(batch: Any) -> Any:
    """The pattern of a batch that may have one."""
    return getattr(batch, "pattern", None)


def byte_strings(texts: Sequence[str] | Mapping[str, Any]) -> Array:
    """Texts as a column of UTF-8 byte strings (lone surrogates, which stand for bytes that are not Unicode, travel too)."""
    array = np.empty(len(texts), object)
    array[:] = [text.encode("utf-8", "surrogatepass") for text in texts]
    return array


def texts_of(column: Array) -> list[str]:
    """The texts that `byte_strings` made a column of."""
    return [item.decode("utf-8", "surrogatepass") for item in column.tolist()]
