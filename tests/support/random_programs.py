"""Random programs with nested conditionals, loops and side effects, and two ways to run them.

`programs()` is a hypothesis strategy for `Program`; `evaluate` runs one in plain Python and NumPy, statement by statement;
`build` writes the same program with `cond`, `while_loop`, variables and control dependencies.  The two share nothing but the
tree.

Two kinds of value exist: "i", an int32 scalar, and "f", two float64 in [-1, 1].  Integers are reduced by a modulus wherever
they could grow, floating operations never enlarge an error, and only integers decide what is executed: so integers must agree
exactly, floats closely, and a difference is a defect, never noise.

Every block (the program itself, a branch, a loop's body) ends in an operation ``mark<number>``.  `evaluate` counts how often
it must execute, alive and in all, by the rules of Arvind's tagged tokens as TensorFlow has them: an untaken branch executes
dead once for each execution of the conditional, and a loop's body executes dead once each time that the loop is entered (in
the iteration whose predicate is false, or in the only iteration of a loop that was entered dead).
"""

from __future__ import annotations

import operator
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

MODULUS = 997
INTS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "max": max,
    "min": min,
}
FLOATS: dict[str, Callable[[Any, Any], Any]] = {
    "avg": lambda a, b: (a + b) * 0.5,
    "half_product": lambda a, b: a * b * 0.5,
    "max": np.maximum,
    "min": np.minimum,
    "tanh": lambda a, b: np.tanh(a),
    "sin": lambda a, b: np.sin(b),
    "spread": lambda a, b: np.stack([a.mean(), b[1]]),
}
COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, "==": operator.eq, "!=": operator.ne}

Env = dict[str, str]  # name → kind


# --- the tree -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expr:
    """An operation on expressions; `value` is a name ("name"), a number ("const") or the operator's own (others)."""

    kind: str
    op: str
    args: tuple[Expr, ...] = ()
    value: Any = None

    def __repr__(self) -> str:
        if self.op in ("name", "const"):
            return str(self.value)
        return f"{self.op}({', '.join(map(repr, self.args))})"


ALWAYS = Expr("b", "==", (Expr("i", "const", value=0), Expr("i", "const", value=0)))


@dataclass(frozen=True)
class Let:
    name: str
    expr: Expr


@dataclass(frozen=True)
class Effect:
    """Change a variable: `how` is assign, assign_add or assign_sub."""

    variable: str
    how: str
    expr: Expr


@dataclass(frozen=True)
class Read:
    """Read a variable now: after the effects before it and before those after it."""

    name: str
    variable: str


@dataclass(frozen=True)
class Block:
    number: int
    statements: tuple[Any, ...]
    results: tuple[str, ...]

    @property
    def effectful(self) -> bool:
        return any(
            isinstance(s, Effect | Read)
            or (isinstance(s, If) and (s.then.effectful or s.orelse.effectful))
            or (isinstance(s, Loop) and s.body.effectful)
            for s in self.statements
        )


@dataclass(frozen=True)
class If:
    names: tuple[str, ...]
    predicate: Expr
    then: Block
    orelse: Block


@dataclass(frozen=True)
class Loop:
    """``while counter < limit and predicate``; `variables` are the loop's names, `inits` what they start from."""

    names: tuple[str, ...]
    counter: str
    limit: Expr
    predicate: Expr
    variables: tuple[str, ...]
    inits: tuple[str, ...]
    body: Block
    parallel_iterations: int


@dataclass(frozen=True)
class Program:
    body: Block
    inputs: tuple[tuple[str, Any], ...]
    variables: tuple[tuple[str, Any], ...]


# --- making them ----------------------------------------------------------------------------------------------------------


@st.composite
def programs(draw: st.DrawFn, depth: int = 3, effects: bool = True) -> Program:
    """Programs nested `depth` deep; with `effects`, they read and change variables."""
    make = _Make(draw)
    inputs = (("i0", make.between(-20, 20)), ("f0", (make.between(-8, 8) / 8, 0.5)))
    variables = (("v_i", make.between(-5, 5)), ("v_f", (0.25, -0.75))) if effects else ()
    make.variables = [name for name, _ in variables]
    return Program(make.block({"i0": "i", "f0": "f"}, depth, ("i", "f")), inputs, variables)


_UP_TO = [st.integers(0, n) for n in range(64)]


class _Make:
    """Makes the parts of one program.  Every choice is a number below some bound, which is quick to draw and shrinks well."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.used: Counter[str] = Counter()
        self.variables: list[str] = []

    def between(self, low: int, high: int) -> int:
        """A number from `low` to `high`, the one nearest to zero being the simplest."""
        simplest = min(max(0, low), high)
        value = simplest + self.draw(_UP_TO[high - low])
        return value if value <= high else low + high - value

    def one_of(self, options: Any) -> Any:
        return options[self.draw(_UP_TO[len(options) - 1])]

    def fresh(self, prefix: str) -> str:
        self.used[prefix] += 1
        return f"{prefix}{self.used[prefix]}"

    def expr(self, env: Env, kind: str, depth: int = 2) -> Expr:
        """An expression over the names of `env`; it stays in bounds whatever the operands."""
        names = [name for name, of in env.items() if of == kind]
        leaves = ("compare",) if kind == "b" else ("const", "name")
        shape = self.one_of(SHAPES[kind] if depth > 0 else leaves)
        if shape == "name" and names:
            return Expr(kind, "name", value=self.one_of(names))
        if shape in ("const", "name"):
            return Expr(kind, "const", value=self.between(-9, 9) if kind == "i" else self.between(-8, 8) / 8)
        if shape == "compare":
            operands = self.expr(env, "i", depth - 1), self.expr(env, "i", depth - 1)
            return Expr("b", self.one_of(sorted(COMPARISONS)), operands)
        if shape == "not":
            return Expr("b", "not", (self.expr(env, "b", 0),))
        if shape == "cast":
            return Expr("f", "cast", (self.expr(env, "i", depth - 1),))
        first, second = self.expr(env, kind, depth - 1), self.expr(env, kind, depth - 1)
        if shape == "where":
            return Expr(kind, "where", (self.expr(env, "b", depth - 1), first, second))
        table = {"i": INTS, "f": FLOATS, "b": ("and", "or")}[kind]
        return Expr(kind, self.one_of(sorted(table)), (first, second))

    def block(self, outer: Env, depth: int, kinds: tuple[str, ...]) -> Block:
        """A block over the names of `outer` that gives results of these kinds."""
        number = int(self.fresh("block")[5:])
        env = dict(outer)
        options = [
            "let",
            *["effect", "read"] * bool(self.variables),
            *["if", "loop"] * (2 if depth > 0 else 0),
        ]
        count = self.between(1, 3)
        statements = tuple(self.statement(self.one_of(options), env, depth) for _ in range(count))
        results = []
        for kind in kinds:
            # The newer half of the names, so that what the block computed matters.
            candidates = [name for name, of in env.items() if of == kind]
            results.append(self.one_of(candidates[len(candidates) // 2 :]))
        return Block(number, statements, tuple(results))

    def statement(self, what: str, env: Env, depth: int) -> Any:
        """One statement; the names that it makes are added to `env`."""
        made: Any
        match what:
            case "effect":
                variable = self.one_of(self.variables)
                return Effect(
                    variable,
                    self.one_of(("assign", "assign_add", "assign_sub")),
                    self.expr(env, variable[-1], 1),
                )
            case "let":
                kind = self.one_of("if")
                made = Let(self.fresh(kind), self.expr(env, kind))
                kinds, names = (kind,), (made.name,)
            case "read":
                variable = self.one_of(self.variables)
                made = Read(self.fresh(variable[-1]), variable)
                kinds, names = (variable[-1],), (made.name,)
            case "if":
                kinds = tuple(self.one_of("if") for _ in range(self.between(1, 3)))
                predicate = self.expr(env, "b")
                then, orelse = self.block(env, depth - 1, kinds), self.block(env, depth - 1, kinds)
                names = tuple(self.fresh(kind) for kind in kinds)
                made = If(names, predicate, then, orelse)
            case _:
                inits = tuple(self.one_of(list(env)) for _ in range(self.between(1, 3)))
                kinds = tuple(env[init] for init in inits)
                counter, variables = self.fresh("n"), tuple(self.fresh(kind) for kind in kinds)
                # Most loops run for a fixed number of times: of random bounds and predicates, most would not run at all.
                fixed = Expr("i", "const", value=self.between(0, 3))
                limit = self.expr(env, "i", 1) if self.between(0, 3) == 3 else fixed
                inner = {**env, **dict(zip(variables, kinds, strict=True)), counter: "i"}
                predicate = self.expr(inner, "b", 1) if self.between(0, 3) == 3 else ALWAYS
                body = self.block(inner, depth - 1, kinds)
                names = tuple(self.fresh(kind) for kind in kinds)
                made = Loop(names, counter, limit, predicate, variables, inits, body, self.one_of((10, 1, 2)))
        env.update(zip(names, kinds, strict=True))
        return made


SHAPES = {
    "i": ("const", "name", "name", "operator", "operator", "where"),
    "f": ("const", "name", "name", "operator", "operator", "where", "cast"),
    "b": ("compare", "compare", "operator", "not"),
}


# --- plain Python -----------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What a program gives: results, the variables after it, and how often each block's mark executes (alive, in all)."""

    results: tuple[Any, ...]
    variables: dict[str, Any]
    alive: Counter[int]
    total: Counter[int]


def evaluate(program: Program) -> Outcome:
    """Run it, one statement after the other."""
    run = _Run({name: _value(name[-1], value) for name, value in program.variables}, Counter(), Counter())
    env = {name: _value(name[0], value) for name, value in program.inputs}
    results = run.block(program.body, env)
    return Outcome(results, run.variables, run.alive, run.total)


def _value(kind: str, value: Any) -> Any:
    return int(value) if kind == "i" else np.broadcast_to(np.float64(value), (2,)).copy()


@dataclass
class _Run:
    variables: dict[str, Any]
    alive: Counter[int]
    total: Counter[int]

    def expr(self, expr: Expr, env: dict[str, Any]) -> Any:
        if expr.op == "name":
            return env[expr.value]
        if expr.op == "const":
            return _value(expr.kind, expr.value)
        args = [self.expr(arg, env) for arg in expr.args]
        if expr.kind == "b":
            if expr.op == "not":
                return not args[0]
            if expr.op in ("and", "or"):
                return all(args) if expr.op == "and" else any(args)
            return COMPARISONS[expr.op](*args)
        if expr.op == "where":
            return args[1] if args[0] else args[2]
        if expr.op == "cast":
            return np.full(2, args[0] / MODULUS)
        if expr.kind == "f":
            return FLOATS[expr.op](*args)
        if expr.op == "//":
            return args[0] // (args[1] * args[1] + 1)
        return INTS[expr.op](*args) % MODULUS

    def block(self, block: Block, env: dict[str, Any]) -> tuple[Any, ...]:
        env = dict(env)
        self.alive[block.number] += 1
        self.total[block.number] += 1
        for s in block.statements:
            match s:
                case Let():
                    env[s.name] = self.expr(s.expr, env)
                case Read():
                    env[s.name] = self.read(s.variable)
                case Effect():
                    value, old = self.expr(s.expr, env), self.variables[s.variable]
                    changed = {"assign": value, "assign_add": old + value, "assign_sub": old - value}
                    self.variables[s.variable] = changed[s.how]
                case If():
                    taken, other = (s.then, s.orelse) if self.expr(s.predicate, env) else (s.orelse, s.then)
                    self.dead(other)
                    env.update(zip(s.names, self.block(taken, env), strict=True))
                case Loop():
                    env.update(zip(s.names, self.loop(s, env), strict=True))
        return tuple(env[name] for name in block.results)

    def read(self, variable: str) -> Any:
        value = self.variables[variable]
        return value % MODULUS if variable.endswith("i") else np.tanh(value)

    def loop(self, loop: Loop, env: dict[str, Any]) -> tuple[Any, ...]:
        limit, count = self.expr(loop.limit, env) % 4, 0
        values = tuple(env[init] for init in loop.inits)
        while True:
            inner = {**env, **dict(zip(loop.variables, values, strict=True)), loop.counter: count}
            if not (count < limit and self.expr(loop.predicate, inner)):
                break
            values, count = self.block(loop.body, inner), count + 1
        self.dead(loop.body)  # the iteration in which the predicate was false
        return values

    def dead(self, block: Block) -> None:
        """The block executes once with dead tokens only, and so does all that is in it."""
        self.total[block.number] += 1
        for inner in children(block):
            self.dead(inner)


def children(block: Block) -> Iterator[Block]:
    """The blocks directly inside of a block."""
    for s in block.statements:
        if isinstance(s, If):
            yield from (s.then, s.orelse)
        elif isinstance(s, Loop):
            yield s.body


# --- a graph ----------------------------------------------------------------------------------------------------------------


@dataclass
class Built:
    """The graph of a program: fetch `fetches` with `feeds` after running `initializer`."""

    graph: Any
    fetches: list[Any]
    feeds: dict[Any, Any]
    initializer: Any
    variables: dict[str, Any]


def anywhere(seed: int, devices: Sequence[str]) -> Callable[[Any], str]:
    """A device function that puts nodes on any of `devices`, but for what must be with its variable."""
    rng = random.Random(seed)
    return lambda op: "" if op.type.startswith(("Variable", "Assign")) else rng.choice(devices)


def build(program: Program, tf: Any, keep_all: bool = False, device: Any = None) -> Built:
    """The same program with TensorFlow 1's API, `tf` being the module that has it; `device` as for `tf.device`.

    With `keep_all`, a block's results wait for all conditionals and loops in it, so that none is pruned.
    """
    graph = tf.Graph()
    with graph.as_default(), graph.device(device):
        variables = {
            name: tf.Variable(_value(name[-1], value), dtype=_dtype(tf, name[-1]), name=name)
            for name, value in program.variables
        }
        env, feeds = {}, {}
        for name, value in program.inputs:
            env[name] = tf.placeholder(_dtype(tf, name[0]), [] if name[0] == "i" else [2], name=name)
            feeds[env[name]] = _value(name[0], value)
        results = _Build(tf, variables, keep_all).block(program.body, env, [])
        initializer = tf.global_variables_initializer()
    return Built(graph, results, feeds, initializer, variables)


def _dtype(tf: Any, kind: str) -> Any:
    return tf.int32 if kind == "i" else tf.float64


@dataclass
class _Build:
    tf: Any
    variables: dict[str, Any]
    keep_all: bool

    def expr(self, expr: Expr, env: dict[str, Any]) -> Any:
        tf = self.tf
        if expr.op == "name":
            return env[expr.value]
        if expr.op == "const":
            return tf.constant(_value(expr.kind, expr.value), _dtype(tf, expr.kind))
        args = [self.expr(arg, env) for arg in expr.args]
        if expr.op in OPS[expr.kind]:
            return OPS[expr.kind][expr.op](tf, *args)
        return tf.floormod(OPS["i%"][expr.op](tf, *args), MODULUS)

    def block(self, block: Block, env: dict[str, Any], before: list[Any]) -> list[Any]:
        """Build it; `before` are what its first effect waits for.  The results wait for its last effect."""
        tf, env, last = self.tf, dict(env), list(before)
        inner: list[Any] = []
        for s in block.statements:
            match s:
                case Let():
                    env[s.name] = self.expr(s.expr, env)
                case Read():
                    with tf.control_dependencies(last):
                        variable = self.variables[s.variable].read_value()
                        integer = s.variable.endswith("i")
                        env[s.name] = tf.floormod(variable, MODULUS) if integer else tf.tanh(variable)
                    last = [env[s.name]]
                case Effect():
                    value = self.expr(s.expr, env)
                    with tf.control_dependencies(last):
                        last = [getattr(tf, s.how)(self.variables[s.variable], value).op]
                case If():
                    predicate = self.expr(s.predicate, env)
                    with tf.control_dependencies(last):
                        outs = tf.cond(
                            predicate,
                            lambda s=s, env=dict(env): self.block(s.then, env, []),
                            lambda s=s, env=dict(env): self.block(s.orelse, env, []),
                        )
                    outs = outs if isinstance(outs, list | tuple) else [outs]
                    env.update(zip(s.names, outs, strict=True))
                    last = [outs[0]] if s.then.effectful or s.orelse.effectful else last
                    inner.append(outs[0])
                case Loop():
                    outs = self.loop(s, env, last)
                    env.update(zip(s.names, outs[1:], strict=True))
                    last = [outs[0]] if s.body.effectful else last
                    inner.append(outs[0])
        waited = (last if block.effectful else []) + (inner if self.keep_all else [])
        with tf.control_dependencies(waited):
            results = [tf.identity(env[name]) for name in block.results]
        results[0] = tf.identity(results[0], name=f"mark{block.number}")
        return results

    def loop(self, loop: Loop, env: dict[str, Any], last: list[Any]) -> list[Any]:
        tf = self.tf
        limit = tf.floormod(self.expr(loop.limit, env), 4)
        with tf.control_dependencies(last):
            start = tf.constant(0)

        def inside(count: Any, values: tuple[Any, ...]) -> dict[str, Any]:
            return {**env, **dict(zip(loop.variables, values, strict=True)), loop.counter: count}

        def predicate(count: Any, *values: Any) -> Any:
            return tf.logical_and(count < limit, self.expr(loop.predicate, inside(count, values)))

        def body(count: Any, *values: Any) -> list[Any]:
            results = self.block(loop.body, inside(count, values), [count])
            with tf.control_dependencies([results[0]]):
                return [count + 1, *results]

        return list(
            tf.while_loop(
                predicate,
                body,
                [start, *(env[init] for init in loop.inits)],
                parallel_iterations=loop.parallel_iterations,
            )
        )


OPS: dict[str, dict[str, Callable[..., Any]]] = {
    "b": {
        "<": lambda tf, a, b: a < b,
        "<=": lambda tf, a, b: tf.less_equal(a, b),
        ">": lambda tf, a, b: a > b,
        "==": lambda tf, a, b: tf.equal(a, b),
        "!=": lambda tf, a, b: tf.not_equal(a, b),
        "and": lambda tf, a, b: tf.logical_and(a, b),
        "or": lambda tf, a, b: tf.logical_or(a, b),
        "not": lambda tf, a: tf.logical_not(a),
    },
    "f": {
        "avg": lambda tf, a, b: (a + b) * 0.5,
        "half_product": lambda tf, a, b: a * b * 0.5,
        "max": lambda tf, a, b: tf.maximum(a, b),
        "min": lambda tf, a, b: tf.minimum(a, b),
        "tanh": lambda tf, a, b: tf.tanh(a),
        "sin": lambda tf, a, b: tf.sin(b),
        "spread": lambda tf, a, b: tf.stack([tf.reduce_mean(a), b[1]]),
        "where": lambda tf, p, a, b: tf.where(tf.fill([2], p), a, b),
        "cast": lambda tf, a: tf.fill([2], tf.cast(a, tf.float64) / MODULUS),
    },
    "i": {
        "where": lambda tf, p, a, b: tf.where(p, a, b),
        "//": lambda tf, a, b: tf.floordiv(a, b * b + 1),
    },
    "i%": {
        "+": lambda tf, a, b: a + b,
        "-": lambda tf, a, b: a - b,
        "*": lambda tf, a, b: a * b,
        "max": lambda tf, a, b: tf.maximum(a, b),
        "min": lambda tf, a, b: tf.minimum(a, b),
    },
}
