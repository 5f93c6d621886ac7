"""Schedulers: who picks among the ready activations of a step.

A scheduler picks an index of the queue of what is ready.  It is a function of its seed and of what has executed so far, so that
a step which goes back and forth is scheduled the same way again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.runtime.frames import Activation
from engine.runtime.step import StepRun
from workbench.debugger.schedules.accesses import Kind, has_counter, kind_of
from workbench.debugger.schedules.record import Recorder, Schedule, ScheduleError

Key = tuple[int, int, int]  # an activation's item, frame and iteration
_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """64 bits that look random, always the same for the same numbers (the finalizer of SplitMix64, Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


class Scheduler:
    """Takes what has been ready longest, as the interpreter does; the others are made from it.

    `text` is how a person asks for it.  One scheduler serves one step at a time: `begin` says which.
    """

    text = "first"

    def begin(self, step: StepRun, recorder: Recorder) -> None:
        """Schedule `step` from here, where `recorder` stands."""

    def choose(self, recorder: Recorder) -> int:
        """The index in `recorder.queue` of what runs next; called where more than one activation is ready."""
        return 0

    def executed(self, activation: Activation, run: Sequence[Activation], recorder: Recorder) -> None:
        """`activation` has executed, and `run` has become ready by that."""

    def resumed(self, recorder: Recorder) -> None:
        """Executions were taken back, or went by without this being told; `recorder` stands where the step does."""


class Random(Scheduler):
    """Each of the ready activations with equal probability."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.text = f"random {seed}"

    def choose(self, recorder: Recorder) -> int:
        return mix(self.seed, len(recorder)) % len(recorder.queue)


class PCT(Scheduler):
    """Random priorities with `depth` - 1 random points at which the running chain's priority becomes the lowest.

    Finds a bug that needs `depth` orderings among `length` executions in `n` chains with a probability of at least
    1 / (n * length ** (depth - 1)) (Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs",
    ASPLOS 2010).  A graph has chains in place of threads, as in Ozkan et al., "Randomized Testing of Distributed Systems with
    Probabilistic Guarantees", OOPSLA 2018: the first activation that an execution makes ready goes on with its chain, and each
    other one begins its own.
    """

    def __init__(self, seed: int = 0, depth: int = 3, length: int = 0) -> None:
        self.seed, self.depth, self.length = seed, depth, length
        self.text = f"pct {seed} {depth}" + (f" {length}" if length else "")
        self._chains: dict[Activation, int] = {}
        self._changes: dict[int, int] = {}
        self._lowered: list[tuple[int, int, int]] = []

    def begin(self, step: StepRun, recorder: Recorder) -> None:
        length = self.length or max(len(step.program.items), 1)
        self._chains = {activation: self._new_chain(activation) for activation in recorder.queue}
        self._changes = {mix(self.seed, 1, i) % length: i for i in range(1, self.depth)}
        self._lowered = []

    def _new_chain(self, activation: Activation) -> int:
        # The highest bit sets the chains' priorities above those of the change points.
        return mix(self.seed, 2, *key_of(activation)) | 1 << 63

    def _priority(self, activation: Activation) -> int:
        chain = self._chains.get(activation)
        if chain is None:
            chain = self._chains[activation] = self._new_chain(activation)
        for _, lowered, priority in self._lowered:
            if lowered == chain:
                chain = priority
        return chain

    def choose(self, recorder: Recorder) -> int:
        done = len(recorder)
        while self._lowered and self._lowered[-1][0] >= done:  # taken back, or asked again
            self._lowered.pop()
        queue = recorder.queue
        found = max(range(len(queue)), key=lambda index: (self._priority(queue[index]), -index))
        change = self._changes.get(done)
        if change is not None:
            chain = self._chains[queue[found]]
            if (done, chain, self.depth - change) not in self._lowered:
                self._lowered.append((done, chain, self.depth - change))
            found = max(range(len(queue)), key=lambda index: (self._priority(queue[index]), -index))
        return found

    def executed(self, activation: Activation, run: Sequence[Activation], recorder: Recorder) -> None:
        chain = self._chains.get(activation, 0)
        for index, each in enumerate(run):
            self._chains[each] = self._new_chain(each) if index or not chain else chain


class Newest(Scheduler):
    """Last in, first out: what has waited longest goes on waiting."""

    text = "lifo"

    def choose(self, recorder: Recorder) -> int:
        return len(recorder.queue) - 1


class Ranked(Scheduler):
    """Those activations first whose rank is lowest, by what their nodes do to resources; the longest ready first among equals."""

    def __init__(self, text: str, ranks: Callable[[bool, bool], int]) -> None:
        self.text = text
        self._ranks = ranks
        self._by_item: dict[int, int] = {}

    def begin(self, step: StepRun, recorder: Recorder) -> None:
        self._by_item = {}

    def choose(self, recorder: Recorder) -> int:
        ranks = [self._rank(activation) for activation in recorder.queue]
        return ranks.index(min(ranks))

    def _rank(self, activation: Activation) -> int:
        item = activation.item
        found = self._by_item.get(item.index)
        if found is None:
            kinds = {kind_of(item, slot) for slot in range(item.n_inputs)} - {None}
            writes = any(kind.writes for kind in kinds if kind) or has_counter(item.node)
            found = self._by_item[item.index] = self._ranks(Kind.READ in kinds, writes)
        return found


class Delay(Scheduler):
    """These nodes run only where nothing else is ready."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)
        self.text = f"delay {' '.join(names)}"

    def choose(self, recorder: Recorder) -> int:
        for index, activation in enumerate(recorder.queue):
            if activation.name not in self.names:
                return index
        return 0


class Replay(Scheduler):
    """Makes the picks of `schedule`, then takes what has been ready longest.

    `left` says where the step has gone another way, as a move that prefers other nodes does: from there on nothing is replayed.
    Raises ScheduleError, from `begin` and `choose`, for a schedule that is not of this step.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.text = f"replay {schedule}"
        self.left = -1
        self._at = 0  # how many picks have been made

    def begin(self, step: StepRun, recorder: Recorder) -> None:
        self.schedule.check(step.stage)
        self.resumed(recorder)
        if self.left >= 0:
            raise ScheduleError(
                f"the step has executed {len(recorder)} nodes, after the first {self.left} in another order than the schedule; "
                f"back {len(recorder)} goes to its beginning, where any schedule can be replayed"
            )

    def resumed(self, recorder: Recorder) -> None:
        self.left = -1
        self._at = 0
        for done, pick in enumerate(recorder.all_picks):
            self._picked(done, pick)

    def _picked(self, done: int, pick: int) -> None:
        """What was picked after `done` executions."""
        if pick < 0:
            return
        if self.left < 0 and pick != self._wanted:
            self.left = done
        self._at += 1

    @property
    def _wanted(self) -> int:
        return self.schedule.picks[self._at] if self._at < len(self.schedule.picks) else 0

    def choose(self, recorder: Recorder) -> int:
        if self.left >= 0:
            return 0
        if self._wanted >= len(recorder.queue):
            raise ScheduleError(
                f"the schedule takes number {self._wanted} of what is ready after {len(recorder)} executions, and "
                f"{len(recorder.queue)} are: it was recorded with other feeds, variables or options"
            )
        return self._wanted

    def executed(self, activation: Activation, run: Sequence[Activation], recorder: Recorder) -> None:
        self._picked(len(recorder) - 1, recorder.last_pick)


def key_of(activation: Activation) -> Key:
    """What tells an activation from all others of its step."""
    return activation.item.index, activation.frame.id, activation.iteration


# Before all else what the scheduler is for; last what it holds back.
_RANKS: dict[str, Callable[[bool, bool], int]] = {
    "writes-first": lambda reads, writes: 0 if writes else 2 if reads else 1,
    "reads-first": lambda reads, writes: 2 if writes else 0 if reads else 1,
    "longest-wait": lambda reads, writes: 1 if reads or writes else 0,
}


def ranked(name: str) -> Ranked:
    """The scheduler of that name: 'writes-first', 'reads-first', or 'longest-wait' (all accesses as late as can be)."""
    return Ranked(name, _RANKS[name])


def from_words(words: Sequence[str], nodes: Callable[[str], Sequence[str]]) -> Scheduler:
    """The scheduler that ``random 7`` and the like ask for.

    `nodes` gives the names of the nodes that a word means (raising CommandError for none).  Raises ScheduleError.
    """
    name, *rest = words
    if name == "delay":
        if not rest:
            raise ScheduleError("which node is to wait? schedule delay NODE")
        return Delay([each for word in rest for each in nodes(word)])
    if name in ("random", "pct"):
        most = 1 if name == "random" else 3
        if len(rest) > most or not all(word.isdecimal() and len(word) < 19 for word in rest):
            usage = "random [SEED]" if name == "random" else "pct [SEED [DEPTH [LENGTH]]]"
            raise ScheduleError(
                f"'{' '.join(rest)}' are not the numbers that it takes; type schedule {usage}"
            )
        numbers = [int(word) for word in rest]
        if name == "random":
            return Random(*numbers)
        if len(numbers) > 1 and not 1 <= numbers[1] <= 100:
            raise ScheduleError(f"the depth of a bug is between 1 and 100, not {numbers[1]}")
        return PCT(*numbers)
    if rest:
        raise ScheduleError(f"schedule {name} takes nothing more")
    if name in _RANKS:
        return ranked(name)
    return Newest() if name == Newest.text else Scheduler()


NAMES = ("first", "random", "pct", "lifo", *_RANKS, "delay")
