"""Holds a trace to its promises: every value a definition binds, in order, under its symbol, equation and line."""

import functools
import linecache
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tolerances import TWINS

import kalnorm_ref as kr
from kalnorm_ref import gradcheck
from kalnorm_ref.kalman_norm import kalman_norm_backward_staged
from kalnorm_ref.tracing import methods, symbols
from kalnorm_ref.tracing.examples import EXAMPLES
from kalnorm_ref.tracing.followed import definitions

DOCS = Path(__file__).parent.parent / "docs"
CASES = [(method, name) for method, examples in EXAMPLES.items() for name in examples]
NORMALIZERS = ["kn", "kn-predicted", "bn", "brn", "filter", "observe", "fuse", "predict", "standardize"]
rng = np.random.default_rng(7)
X, DY = rng.normal(5, 3, (6, 3)), rng.normal(size=(6, 3))
PRIOR = kr.Moments(rng.normal(4, 1, 3), rng.uniform(1, 2, 3))


def symbols_of(trace):
    return [step.symbol for step in trace.steps]


def parts_of(trace):
    return trace.steps, trace.notes


def traced(method, name):
    return methods.run(method, EXAMPLES[method][name].arguments)


def forward_and_backward(x, gamma, beta, prior, gain, dy):
    _, _, cache = kr.kalman_norm_forward(x, gamma, beta, prior, gain)
    return kr.kalman_norm_backward(dy, None, cache)


def test_symbols_are_those_of_the_equations_page():
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", (DOCS / "equations.md").read_text(), re.MULTILINE)
    checked = 0
    for names, marks in rows:
        names, marks = re.findall(r"`([\w.]+)`", names), marks.replace("\\", "")
        pair = re.match(r"\((\w+), (\w+)\)", marks)
        expected = [pair.groups()] if pair else re.findall(r"^\w+|(?<=, )\w+", re.split(r"[(;]", marks)[0])
        for name, mark in zip(names, expected, strict=True):
            assert symbols.NAMES[name] == mark
            checked += 1
    assert checked >= 19


@pytest.mark.parametrize(("method", "name"), CASES)
def test_every_number_is_on_the_equations_page(method, name):
    page = (DOCS / "equations.md").read_text()
    for step in traced(method, name).steps:
        for number in filter(None, step.equation.split(", ")):
            assert re.search(rf"\b{re.escape(number)}\b", page), step


@pytest.mark.parametrize(("method", "name"), CASES)
def test_an_example_runs_forward_and_backward_and_every_line_is_there(method, name):
    trace, arguments = traced(method, name), EXAMPLES[method][name].arguments
    assert {note.part for note in trace.notes} >= {"given", "backward"}
    for i, (step, note) in enumerate(zip(trace.steps, trace.notes, strict=True)):
        assert step.shape == step.value.shape and all(use < i for use in note.uses)
        first = note.source.splitlines()[0]
        assert linecache.getline(step.file, step.line).strip() == first
        if note.code:
            bound = re.split(r"[.\[]", step.name)[0]
            assert re.search(rf"\b{bound}\b", note.source) or first.startswith("return"), step
    with kr.use_backend("numpy"):
        plain = methods.METHODS[method](**arguments)
    assert gradcheck.max_error(trace.result, plain) == 0


@pytest.mark.parametrize("method", NORMALIZERS)
def test_every_computed_step_of_a_normalizer_has_its_equation(method):
    trace = traced(method, next(iter(EXAMPLES[method])))
    without = [s.name for s, n in zip(trace.steps, trace.notes, strict=True) if n.code and not s.equation]
    assert without == []
    formulas = [n.formula for s, n in zip(trace.steps, trace.notes, strict=True) if n.code and s.name != "m"]
    assert sum(map(bool, formulas)) >= 0.75 * len(formulas)


def test_kn_in_order_with_numbers_and_formulas():
    trace = kr.trace(forward_and_backward, X, rng.normal(2, 1, 3), rng.normal(size=3), PRIOR, 0.3, DY)
    expected = "x gamma beta a b q dy eps xbar S p delta mu v r x_hat y m x_hat g dgamma dbeta dmu dv p delta"
    assert symbols_of(trace) == f"{expected} ddelta da db dq dx".split()
    found = {s.symbol: (s.equation, n.formula, s.name) for s, n in zip(trace.steps, trace.notes, strict=True)}
    assert found["v"] == ("A1, B5", "v = p b + q S + p q delta^2", "var")
    assert found["xbar"] == ("B1", "xbar = 1/m sum_i x_i", "mean")
    assert found["x_hat"] == ("B0", "x_hat = (x - mu) r", "x_hat")
    assert found["dq"] == ("B5", "dq = dmu delta + dv (S - b + (1 - 2q) delta^2)", "dgain")
    assert found["g"] == ("B0", "g = gamma dy", "g")
    assert found["da"] == ("B5", "da = dmu - ddelta", "dprior.mean")
    assert found["a"][2] == "prior.mean"
    parts = [note.part for note in trace.notes]
    assert parts == sorted(parts, key=["given", "forward", "backward"].index)


def test_values_are_those_of_the_compiled_twin(backend):
    trace = kr.trace(forward_and_backward, X, rng.normal(2, 1, 3), None, PRIOR, 0.3, DY)
    given = {step.name: step.value for step in trace.steps[:7]}
    y, estimate, cache = kr.kalman_norm_forward(X, given["gamma"], None, PRIOR, 0.3)
    found = {step.symbol: step.value for step in trace.steps}
    assert gradcheck.max_error((found["y"], found["mu"], found["v"]), (y, *estimate)) <= TWINS
    dx, dgamma, _, dprior, dgain = kr.kalman_norm_backward(DY, None, cache)
    names = ("dx", "dgamma", "da", "db", "dq")
    assert gradcheck.max_error(tuple(found[n] for n in names), (dx, dgamma, *dprior, dgain)) <= TWINS


def test_a_wrong_symbol_would_be_seen():
    trace = kr.trace(forward_and_backward, X, None, None, PRIOR, 0.3, DY)
    found = {step.symbol: step.value for step in trace.steps}
    _, estimate, _ = kr.kalman_norm_forward(X, None, None, PRIOR, 0.3)
    assert gradcheck.max_error(found["xbar"], estimate.mean) > 0.01
    assert gradcheck.max_error(found["S"], estimate.var) > 0.01


def test_steps_are_seven_fields_and_copies_that_cannot_be_written():
    def grow(x):
        total = x * 1
        total += 1
        total[0] = 0
        return total

    x = np.array([2.0, 3.0])
    trace = kr.trace(grow, x)
    assert [step.value.tolist() for step in trace.steps] == [[2, 3], [2, 3], [3, 4], [0, 4]]
    name, _, _, shape, value, file, line = trace.steps[-1]
    assert (name, shape, Path(file).name) == ("total", (2,), "test_trace.py")
    assert linecache.getline(file, line).strip() == "total[0] = 0"
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 1
    assert x.tolist() == [2, 3]


def test_a_users_own_function_is_followed_and_its_helpers_are_not():
    def helper(x):
        hidden = x + 1
        return hidden

    def mine(inputs):
        a, *rest = [inputs * 2, inputs * 3]  # noqa: F841
        for i in range(2):
            a = a + i
        if (n := len(inputs)) > 1:
            b = helper(a)
        try:
            inputs.nothing  # noqa: B018
        except AttributeError:
            c = b * n
        return c

    trace = kr.trace(mine, np.array([1.0, 2.0]))
    assert [s.name for s in trace.steps] == ["inputs", "a", "rest[0]", "i", "a", "i", "a", "n", "b", "c"]
    assert [s.value.tolist() for s in trace.steps if s.name == "a"] == [[2, 4], [2, 4], [3, 5]]
    uses = {s.name: [trace.steps[i].name for i in n.uses] for s, n in zip(trace.steps, trace.notes, strict=True)}
    assert uses["c"] == ["b", "n"]


def test_arguments_take_the_symbols_of_the_definition_they_go_to():
    def mine(data, before, spread, share):
        return kr.kalman_norm_forward(data, None, None, kr.Moments(before, spread), share)

    trace = kr.trace(mine, X, PRIOR.mean, PRIOR.var, 0.3)
    names = {s.name: s.symbol for s in trace.steps[:4]}
    assert names == {"data": "x", "before": "a", "spread": "b", "share": "q"}
    assert [note.meaning for note in trace.notes[:1]] == ["input: samples down, channels across"]


def test_sizes_that_are_equal_by_chance_keep_their_names():
    given = {s.name: s.symbol for s, n in zip(*parts_of(traced("conv2d", "exact")), strict=True) if n.part == "given"}
    assert (given["height"], given["width"], given["weight"]) == ("height", "width", "W")


def test_each_element_of_a_tuple_has_the_code_that_made_it():
    codes = {s.name: n.code for s, n in zip(*parts_of(traced("relu", "decimal")), strict=True)}
    assert codes["below[0]"] == "below[0] = s * phi * first"
    assert codes["cdf"] == "cdf = np.where(positive, 1 - tail, tail)"


def test_one_argument_in_two_places_keeps_its_first_symbol():
    trace = kr.trace(lambda x, gamma: kr.batch_norm_forward(x, gamma, gamma), X, rng.normal(2, 1, 3))
    assert symbols_of(trace)[:4] == ["x", "gamma", "beta", "eps"]


def test_a_line_that_fails_binds_nothing():
    def partly(x):
        y = x + 1
        try:
            y = x.nothing + 2
        except AttributeError:
            z = y * 2
        return z

    assert [step.name for step in kr.trace(partly, X).steps] == ["x", "y", "z"]


def test_a_value_that_changes_hands_is_one_step():
    trace = kr.trace(kr.batch_norm_forward, X.astype(np.float32), None, None)
    assert symbols_of(trace) == ["x", "eps", "xbar", "S", "mu", "v", "r", "x_hat", "y"]


def test_what_is_computed_twice_refers_to_the_first_and_a_part_to_the_whole():
    trace = traced("kn", "exact")
    marks = symbols_of(trace)
    again = [i for i, note in enumerate(trace.notes) if note.same is not None]
    assert [marks[i] for i in again] == ["x_hat", "p", "delta"]
    assert all(marks[trace.notes[i].same] == marks[i] for i in again)
    begun = {marks[i]: note.completed for i, note in enumerate(trace.notes) if note.completed is not None}
    assert begun == {"dmu": marks.index("dmu", marks.index("dmu") + 1), "dv": marks.index("dv", marks.index("dv") + 1)}


def test_staged_definitions_partials_layers_and_lambdas():
    _, _, cache = kr.kalman_norm_forward(X, None, None, PRIOR, 0.3)
    staged = symbols_of(kr.trace(kalman_norm_backward_staged, DY, None, cache))
    assert staged[0] == "dy" and staged[-1] == "dx" and {"ddelta", "dxbar", "da", "dq"} <= {*staged}
    assert symbols_of(kr.trace(functools.partial(kr.observe, X))) == ["x", "xbar", "S"]
    assert symbols_of(kr.trace(lambda: kr.observe(X))) == ["x", "xbar", "S"]
    layer = kr.BatchNorm(3)
    assert {"xbar", "S", "y"} <= {*symbols_of(kr.trace(layer.forward, X, training=True))}


def test_source_that_cannot_be_read_leaves_arguments_and_what_the_package_does():
    space = {"kr": kr}
    exec("def typed(x):\n    m = kr.observe(x)\n    return x - m.mean\n", space)
    assert symbols_of(kr.trace(space["typed"], X)) == ["x", "xbar", "S"]


def test_the_trace_function_and_the_backend_of_before_are_back_also_after_an_error():
    def other(frame, event, value):
        return None

    def failing(x):
        kr.observe(x)
        raise RuntimeError("stop")

    before, backend = sys.gettrace(), kr.get_backend()
    sys.settrace(other)
    try:
        with pytest.raises(RuntimeError, match=r"^stop\Z"):
            kr.trace(failing, X)
        assert sys.gettrace() is other
    finally:
        sys.settrace(before)
    assert kr.get_backend() == backend


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kr.trace(3), TypeError, "function is int; expected something to call, such as kr.observe"),
        (
            lambda: kr.trace(int, 3),
            ValueError,
            "int has no step; expected a function in Python, or one that calls those of kalnorm_ref",
        ),
        (
            lambda: kr.trace(kr.observe, np.ones(3)),
            ValueError,
            "x has shape (3,); expected (..., m, C): samples, then channels last",
        ),
    ],
)
def test_errors_say_what_was_wrong(call, error, message):
    with pytest.raises(error, match=rf"^{re.escape(message)}\Z"):
        call()


def test_the_followed_definitions_are_the_public_and_the_staged_ones():
    names = {f"{f.__module__}.{f.__name__}" for f in definitions().values()}
    public = [getattr(kr, n) for n in dir(kr)] + [getattr(kr.transport, n) for n in kr.transport.__all__]
    wrapped = [f for f in public if hasattr(f, "__wrapped__")]
    assert len(wrapped) > 30
    assert {f"{f.__module__}.{f.__name__}" for f in wrapped} <= names
    assert "kalnorm_ref.kalman_norm.kalman_norm_backward_staged" in names
    helpers = {"samples_sum", "per_sample", "affine_backward", "conv2d_forward", "trace"}
    assert not helpers & {name.rpartition(".")[2] for name in names}


def test_saved_steps_come_back(tmp_path):
    trace = traced("kn", "exact")
    trace.save(tmp_path / "steps.npz")
    with np.load(tmp_path / "steps.npz", allow_pickle=False) as stored:
        assert stored["symbols"].tolist() == symbols_of(trace)
        assert stored["lines"].tolist() == [step.line for step in trace.steps]
        for number, step in enumerate(trace.steps, 1):
            assert stored[f"{number:03d} {step.name}"].tobytes() == step.value.tobytes()
