"""Peak resident memory of training, each library in a fresh process for each figure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from cases import Case

from harness.library import Library, LibraryError

CASES = ("mlp_adam_128", "lenet_adam", "transformer")
STEPS = 10
TARGET = 1.0

WHAT = (
    "Peak of resident memory (VmHWM) over building, initializing and 13 training steps, less what was resident (VmRSS) when the "
    "library had been imported and had run a scalar; in brackets the peak of the whole process, interpreter and libraries "
    "included."
)


@dataclass
class Use:
    """What one case takes in each library, in bytes: (peak over the warm library, peak of the process), medians."""

    title: str
    bytes: dict[str, tuple[float, float]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def ratio(self) -> float | None:
        """Ours ÷ TensorFlow, of what the case adds."""
        if not {"ours", "theirs"} <= self.bytes.keys():
            return None
        return self.bytes["ours"][0] / max(1.0, self.bytes["theirs"][0])


def measure(case: Case, pythons: dict[str, tuple[str, str]], cores: Sequence[int], repeats: int) -> Use:
    """One case's memory.  pythons: who → (library, its Python); repeats: fresh processes each."""
    use = Use(case.title)
    for who, (name, python) in pythons.items():
        if not case.runs_on(name):
            continue
        above, whole = [], []
        try:
            for _ in range(repeats):
                library = Library(name, python, cores)
                try:
                    found = library.ask(memory=case.name, steps=STEPS)
                finally:
                    library.close()
                above.append(found["peak"] - found["warm"])
                whole.append(found["peak"])
        except LibraryError as error:
            use.problems[who] = str(error)
            continue
        use.bytes[who] = statistics.median(above), statistics.median(whole)
    return use
