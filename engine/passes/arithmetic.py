"""Arithmetic simplification: a table of rules, each saying that one small expression is equal to a smaller one.

As Grappler's `arithmetic_optimization` and the algebra in its `constant_folding`.  Grappler takes the laws of real numbers for
granted: it makes x·0 a zero though x may be NaN, and x + 0.0 an x though x may be -0.0.  Here the result stays the same to the
bit, so such rows (`exact=False`) touch only integers, unless the config says ``arithmetic_optimization=AGGRESSIVE``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.passes.facts import Facts
from engine.passes.patterns import Match, Matcher, New, Pattern, Rule, any_, const, number, op
from engine.passes.rewrite import Draft, Edge

OPTION = "arithmetic_optimization"

x, y = any_("x"), any_("y")
ADD, MUL, DIV, WHOLE_DIV = "Add AddV2", "Mul", "RealDiv Div", "FloorDiv TruncateDiv"
_SHAPERS = "Reshape Squeeze ExpandDims"


def run(draft: Draft, facts: Facts) -> None:
    aggressive = facts.settings.aggressive(OPTION)
    for name in list(draft.nodes):
        while name in draft.nodes and facts.pure(name) and MATCHER.rewrite(draft, facts, name, aggressive):
            if not draft.consumers(name):
                break


def _keep(name: str) -> Callable[[Match], Edge | None]:
    """The operand of that name, if it has the result's shape and dtype."""

    def replace(m: Match) -> Edge | None:
        return m[name] if m.keeps_shape(m[name]) else None

    return replace


def _the(name: str) -> Callable[[Match], Edge | None]:
    """The tensor of that name, which surely has the result's shape."""
    return lambda m: m[name]


def _filled(value: int) -> Callable[[Match], Any]:
    """A constant of the result's shape, if that is known and not large."""

    def replace(m: Match) -> Any:
        dims, dtype = m.facts.full_dims(m.out), m.node.output_dtypes[0]
        if dims is None or np.prod(dims, dtype=np.int64) * dtype.size > m.facts.settings.max_folded_bytes:
            return None
        return np.full(dims, value, dtype.np_dtype)

    return replace


def _new(type: str, *names: str) -> Callable[[Match], New]:
    return lambda m: New(type, [m[name] for name in names])


# Transposes.


def _perm(m: Match, name: str) -> tuple[int, ...] | None:
    """The order of axes that a constant says, if it is one for the rank of x, which must be known."""
    value, dims = m.facts.value(m[name]), m.facts.dims(m["x"])
    if value is None or dims is None:
        return None
    rank = len(dims)
    perm = tuple(int(axis) % rank for axis in value.reshape(-1) if -rank <= axis < rank)
    return perm if sorted(perm) == list(range(rank)) and value.size == rank else None


def _no_transpose(m: Match) -> Edge | None:
    perm = _perm(m, "p")
    return m["x"] if perm is not None and perm == tuple(range(len(perm))) else None


def _two_transposes(m: Match) -> Any:
    """Transposes in a row: axis i of the result is axis first[second[i]] of x."""
    first, second = _perm(m, "p"), _perm(m, "q")
    if first is None or second is None:
        return None
    joined = tuple(first[axis] for axis in second)
    if joined == tuple(range(len(joined))):
        return m["x"]
    value = np.array(joined, m.producer("q").output_dtypes[0].np_dtype)
    return New("Transpose", [m["x"], m.constant(value, "perm")])


# Shapes.


def _same_shape(m: Match) -> Edge | None:
    dims = m.facts.full_dims(m["x"])
    return m["x"] if dims is not None and dims == m.facts.full_dims(m.out) else None


def _whole_slice(m: Match) -> Edge | None:
    strides = m.facts.value(m["s"])
    return _same_shape(m) if strides is not None and bool((strides == 1).all()) else None


def _shaper(m: Match) -> Edge | None:
    """A Reshape, Squeeze or ExpandDims that changes nothing, and cannot fail."""
    edge = m.node.inputs[0]
    dims = m.facts.dims(edge)
    if dims is None:
        return None
    if m.node.type != "Reshape":
        return edge if None not in dims and dims == m.facts.full_dims(m.out) else None
    if m.draft.nodes[m.node.inputs[1][0]].type != "Const":
        return None
    # The -1 of a shape is what the other dimensions leave, be it known or not: where they are the same, it is.
    shape = m.facts.value(m.node.inputs[1]).tolist()
    same = len(shape) == len(dims) and all(new in (old, -1) for old, new in zip(dims, shape, strict=True))
    return edge if same and shape.count(-1) <= (0 not in dims) else None


def _reshape_chain(m: Match) -> Any:
    """The last Reshape alone, unless x may be a view with steps: of that it might be a view, where before it was a copy."""
    inner = m.producer("r")
    if not m.facts.pure(inner.name) or m.facts.strided(inner.inputs[0]):
        return None
    return New("Reshape", [inner.inputs[0], m["s"]])


# Casts.


def _holds(wide: Any, narrow: Any) -> bool:
    """Whether every value of dtype `narrow` is one of dtype `wide`."""
    a, b = narrow.np_dtype, wide.np_dtype
    if a.kind not in "biufc" or b.kind not in "biufc":
        return False
    if a.kind in "iu" and b.kind in "fc":
        bits = {2: 11, 4: 24, 8: 53}[b.itemsize if b.kind == "f" else b.itemsize // 2]
        return bool(a.itemsize * 8 - (a.kind == "i") <= bits)
    return bool(np.can_cast(a, b, "safe"))


def _no_cast(m: Match) -> Edge | None:
    return m["x"] if m.node.input_dtypes[0] is m.node.output_dtypes[0] else None


def _two_casts(m: Match) -> Any:
    """A Cast of a Cast to a dtype that holds all values: the last alone."""
    inner = m.producer("c")
    source, between, last = inner.input_dtypes[0], inner.output_dtypes[0], m.node.output_dtypes[0]
    if source.is_floating and last.is_integer:
        return None  # what a number too large becomes depends on the dtype that it comes from
    if inner.attrs.get("Truncate") or m.node.attrs.get("Truncate") or not _holds(between, source):
        return None
    return m["x"] if last is source else New("Cast", [m["x"]], {"DstT": last})


# Powers.


_POWERS = {1: None, 2: "Square", 0.5: "Sqrt", -0.5: "Rsqrt", -1: "Reciprocal"}


def _power(m: Match) -> Any:
    type = _POWERS[m.facts.scalar(m["c"])]
    if not m.keeps_shape(m["x"]) or (
        type not in (None, "Square") and not m.node.output_dtypes[0].is_floating
    ):
        return None
    return m["x"] if type is None else New(type, [m["x"]])


# Factors.


def _factored(m: Match) -> Any:
    """a·x + a·y = a·(x + y)."""
    sides = [m.producer("left"), m.producer("right")]
    for a, b in ((i, j) for i in (0, 1) for j in (0, 1)):
        if sides[0].inputs[a] == sides[1].inputs[b]:
            inner = m.make(m.node.type, [sides[0].inputs[1 - a], sides[1].inputs[1 - b]], label="sum")
            return New("Mul", [sides[0].inputs[a], inner])
    return None


def _joined(type: str) -> Callable[[Match], Any]:
    """(x ∘ c) ∘ d = x ∘ (c ∘ d), if no shape is widened on the way."""

    def replace(m: Match) -> Any:
        c, d = m.facts.value(m["c"]), m.facts.value(m["d"])
        if c.shape != d.shape and c.size != 1 and d.size != 1:
            return None
        with np.errstate(all="ignore"):
            joined = np.asarray(np.add(c, d) if type == "add" else np.multiply(c, d))
        return New(m.node.type, [m["x"], m.constant(joined.astype(c.dtype))])

    return replace


# Concat of what is alike.


_ALIKE = frozenset(
    {"Neg", "Abs", "Square", "Relu", "Relu6", "Sign", "Floor", "Ceil", "LogicalNot", "Cast", "Sqrt"}
)
_SCALED = frozenset({"Mul", "AddV2", "Add", "Sub", "RealDiv", "Maximum", "Minimum"})


def _concat(m: Match) -> Any:
    """A Concat of k equal ops on different things: one op on a Concat.

    Only of ops whose result IEEE 754 or integers fix to the bit, so that the place of an element in an array does not matter.
    """
    draft, facts = m.draft, m.facts
    *parts, axis = m.node.inputs
    nodes = [draft.nodes[source] for source, _ in parts]
    first = nodes[0]
    if len(set(parts)) < 2 or first.type not in _ALIKE | _SCALED:
        return None
    for node in nodes:
        alone = (
            len(draft.consumers(node.name)) == 1 and not node.control_inputs and not draft.is_kept(node.name)
        )
        if node.type != first.type or node.attrs != first.attrs or not alone or not facts.pure(node.name):
            return None
        if node.type in _SCALED and (node.inputs[1] != first.inputs[1] or facts.dims(node.inputs[1]) != ()):
            return None
    joined = m.make("ConcatV2", [*(node.inputs[0] for node in nodes), axis], label="concat")
    return New(first.type, [joined, *first.inputs[1:]], first.attrs)


# Selections.


def _over_nothing(m: Match) -> Edge | None:
    return m["x"] if m.facts.value(m["a"]).size == 0 else None


def _select(m: Match) -> Edge | None:
    chosen = m.facts.scalar(m["c"])
    if chosen is None:
        return None
    edge = m["x"] if chosen else m["y"]
    dims = m.facts.dims(edge)
    if dims is None or dims != m.facts.dims(m.out):
        return None
    # One dimension that is not known is what the others leave: it cannot be another one.
    return edge if dims.count(None) == 0 or (dims.count(None) == 1 and 0 not in dims) else None


_OVER_AXES = "Sum Prod Max Min Mean All Any"
_IDEMPOTENT = "Abs Relu Relu6 Floor Ceil Rint Sign"
_INVERSE = "Neg LogicalNot Invert Conj"
_OPPOSITE = {
    "Equal": "NotEqual", "NotEqual": "Equal", "Less": "GreaterEqual", "LessEqual": "Greater", "Greater": "LessEqual",
    "GreaterEqual": "Less",
}  # fmt: skip
_EQUALS, _ORDERS = "Equal NotEqual", "Less LessEqual Greater GreaterEqual"


def _twice(result: str) -> Callable[[Match], Edge | None]:
    """For an op on an op of the same type, called f."""
    return lambda m: m[result] if m.producer("f").type == m.node.type else None


def _negative(m: Match) -> New | None:
    return New("Neg", [m["x"]]) if m.keeps_shape(m["x"]) else None


def _opposite(m: Match) -> New | None:
    """NaN is neither less than a number nor not less: only integers can be turned round."""
    comparison = m.producer("c")
    if comparison.type not in _EQUALS.split() and not comparison.input_dtypes[0].is_integer:
        return None
    return New(_OPPOSITE[comparison.type], [m["x"], m["y"]], comparison.attrs)


def _with_constant(types: str) -> Pattern:
    """x ∘ c, for this reader alone."""
    return op(types, x, const("c"), swaps=True, alone=True)


def _product(name: str) -> Pattern:
    return op(MUL, name=name, alone=True)


def _minus_zero() -> Pattern:
    """What added to anything changes nothing: -0.0, and an integer's 0."""
    return number(-0.0, name="c")


RULES: tuple[Rule, ...] = (
    # Neutral elements.
    Rule("x + -0", op(ADD, x, _minus_zero(), swaps=True), _keep("x"), "adding zero changes nothing"),
    Rule("x + 0", op(ADD, x, number(0.0, name="c"), swaps=True), _keep("x"), "adding zero changes nothing", exact=False),
    Rule("x - 0", op("Sub", x, number(0.0, name="c")), _keep("x"), "subtracting zero changes nothing"),
    Rule("x * 1", op(MUL, x, number(1, name="c"), swaps=True), _keep("x"), "multiplying by one changes nothing"),
    Rule("x / 1", op(DIV, x, number(1, name="c")), _keep("x"), "dividing by one changes nothing"),
    Rule("x // 1", op(WHOLE_DIV, x, number(1, name="c")), _keep("x"), "dividing by one changes nothing", exact=False),
    Rule("x and true", op("LogicalAnd", x, number(1, name="c"), swaps=True), _keep("x"), "x and true is x"),
    Rule("x or false", op("LogicalOr", x, number(0, name="c"), swaps=True), _keep("x"), "x or false is x"),
    Rule("x ** n", op("Pow", x, number(1, name="c")), _power, "the power of one is the number"),
    Rule("x ** special", op("Pow", x, number(2, 0.5, -0.5, -1, name="c")), _power, "there is an op for that power", exact=False),
    # Absorbing elements.
    Rule("x * 0", op(MUL, x, number(0.0, -0.0), swaps=True), _filled(0), "a multiple of zero is zero", exact=False),
    Rule("x and false", op("LogicalAnd", x, number(0), swaps=True), _filled(0), "x and false is false"),
    Rule("x or true", op("LogicalOr", x, number(1), swaps=True), _filled(1), "x or true is true"),
    Rule("x ** 0", op("Pow", x, number(0.0, -0.0)), _filled(1), "anything to the power of zero is one"),
    Rule("x - x", op("Sub", x, x), _filled(0), "a number less itself is zero", exact=False),
    # Signs.
    Rule("0 - x", op("Sub", number(0.0, name="c"), x), _negative, "zero less a number is its negative", exact=False),
    Rule("x + -y", op(ADD, x, op("Neg", y, alone=True), swaps=True), _new("Sub", "x", "y"), "adding the negative is subtracting"),
    Rule("x - -y", op("Sub", x, op("Neg", y, alone=True)), _new("AddV2", "x", "y"), "subtracting the negative is adding"),
    Rule("even of -x", op("Abs Square", op("Neg", x)), lambda m: New(m.node.type, [m["x"]]), "the sign goes lost anyway"),
    # Twice the same.
    Rule("f(f(x)) = x", op(_INVERSE, op(_INVERSE, x, name="f")), _twice("x"), "done twice it undoes itself"),
    Rule("1/(1/x)", op("Reciprocal Inv", op("Reciprocal Inv", x)), _the("x"), "done twice it undoes itself", exact=False),
    Rule("f(f(x)) = f(x)", op(_IDEMPOTENT, op(_IDEMPOTENT, x, name="f")), _twice("f"), "doing it again changes nothing"),
    Rule("not (x = y)", op("LogicalNot", op(_EQUALS, x, y, name="c", alone=True)), _opposite, "there is an op for the opposite"),
    Rule("not (x < y)", op("LogicalNot", op(_ORDERS, x, y, name="c", alone=True)), _opposite, "there is an op for the opposite"),
    Rule("cast to the same", op("Cast", x), _no_cast, "it has that dtype already"),
    Rule("cast of cast", op("Cast", op("Cast", x, name="c")), _two_casts, "the dtype between holds every value"),
    Rule("transpose of nothing", op("Transpose", x, const("p")), _no_transpose, "the axes stay in their order"),
    Rule("two transposes", op("Transpose", op("Transpose", x, const("p")), const("q")), _two_transposes, "two orders are one"),
    Rule("reshape of reshape", op("Reshape", op(_SHAPERS, name="r"), const("s")), _reshape_chain, "the last shape counts"),
    Rule("same shape", op(_SHAPERS), _shaper, "it has that shape already"),
    # What takes all of something.
    Rule("whole slice", op("Slice", x, const("b"), const("n")), _same_shape, "the slice is all of it"),
    Rule("whole strided", op("StridedSlice", x, const("b"), const("e"), const("s")), _whole_slice, "the slice is all of it"),
    Rule("tile once", op("Tile", x, number(1, name="n")), _the("x"), "once is as it is"),
    Rule("pad nothing", op("Pad MirrorPad", x, number(0, name="n")), _the("x"), "there is nothing to add"),
    Rule("over no axis", op(_OVER_AXES, x, const("a")), _over_nothing, "there is no axis to go over"),
    Rule("sum of one", op("AddN", x), _the("x"), "the sum of one is that one"),
    Rule("select", op("Select SelectV2", const("c"), x, y), _select, "it is known which is chosen"),
    # Regrouping.
    Rule("(x + c) + d", op(ADD, _with_constant(ADD), const("d"), swaps=True), _joined("add"), "constants add up", exact=False),
    Rule("(x * c) * d", op(MUL, _with_constant(MUL), const("d"), swaps=True), _joined("mul"), "constants multiply", exact=False),
    Rule("a*x + a*y", op(ADD, _product("left"), _product("right")), _factored, "a common factor can be taken out", exact=False),
    Rule("concat of alike", op("ConcatV2"), _concat, "one op on a concat is as good as a concat of many"),
)  # fmt: skip


MATCHER = Matcher(RULES)
