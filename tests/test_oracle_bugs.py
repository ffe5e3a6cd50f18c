"""Each seeded bug and convention has an effect, none has that of another, and gradients of conventions are right."""

import re

import numpy as np
import pytest

from kalnorm_ref.oracle import bugs, steps
from kalnorm_ref.oracle.arithmetic import Arithmetic, evaluate
from kalnorm_ref.oracle.case import OPS
from kalnorm_ref.oracle.catalogue.build import case

LEAST = {"bn": 40, "brn": 25, "kn": 25, "gkn": 25, "gn": 14}  # bugs; more would be welcome, fewer is a loss
CONVENTIONS = 10
VISIBLE = 1e-3  # of a tensor's largest value
PLANS = (steps.BN, steps.GN, steps.FIXED, steps.BRN_FIXED, steps.BRN, steps.KN, steps.KN_FIRST, steps.RUNNING)


def signed(draws, shape):
    """Gamma of both signs."""
    return draws.normal(*shape)


# 30 samples a channel: no multiple of four, as 6 channels are none; eps that is seen beside the variance, and not 1
TINY = {"offset": 0.003, "scale": 0.003, "eps": 1e-3}  # eps outweighs the variance
TINY_PRIOR = {"noise": 1e-6, "transition": np.full((6, 1), 0.5)}
STATEFUL = {
    "third step": {"eps": 0.5, "gamma": signed, "before": 2},
    "tiny variance": TINY,
    "inference": {"eps": 0.5, "training": False},
    "statistics batches": {"batches": 2, "eps": 0.5},
    "cumulative": {"decay": None},
}
CLIPPED = {  # r and d above, below and within their limits
    "r_max": 1.5,
    "d_max": 1.0,
    "state": {"running_mean": [0, 2, 4, -6, 40, 1], "running_std": [0.5, 2, 2, 4, 8, 2]},
}
FEATURES = {
    "bn": STATEFUL,
    "brn": STATEFUL | {"statistics batches": CLIPPED | {"batches": 2, "eps": 0.5}},
    "kn": STATEFUL
    | {
        "square transition": {"previous": 6},
        "tiny variance": TINY | TINY_PRIOR | {"previous_mean": [0.01], "previous_var": [1e-5]},
    },
    "gn": {"ordinary": {"eps": 0.5, "gamma": signed}, "tiny variance": TINY},
    "gkn": {
        "square transition": {"previous": 3, "eps": 0.5, "gamma": signed},
        "tiny variance": TINY
        | {
            "noise": 1e-6,
            "transition": np.full((3, 1), 0.5),
            "previous_mean": np.full((2, 1), 0.01),
            "previous_var": np.full((2, 1), 1e-5),
        },
    },
}


def built(op, **feature):
    return case(op, "seeded", "to see a seeded bug", (2, 5, 3, 6), **feature)


CASES = {op: {name: built(op, **feature) for name, feature in FEATURES[op].items()} for op in OPS}


def scaled(results, truth):
    """All values in one row, each tensor over the largest value of the truth; what is not finite as a number."""
    row = []
    for name, right in truth.items():
        assert np.shape(results[name]) == np.shape(right), name
        row.append(np.ravel(results[name]) / max(np.max(np.abs(right)), 1e-30))
    return np.clip(np.nan_to_num(np.concatenate(row), nan=1e9), -1e9, 1e9)


@pytest.fixture(scope="module")
def rows():
    """{op: (names, one row of results a change, the row of the truth)}, over all cases of the operation."""
    result = {}
    for op in OPS:
        cases = CASES[op].values()
        truths = [evaluate(c) for c in cases]
        table = [
            np.concatenate(
                [scaled(evaluate(c, changes=change.steps), right) for c, right in zip(cases, truths, strict=True)]
            )
            for change in bugs.changes(op)
        ]
        names = [change.name for change in bugs.changes(op)]
        result[op] = names, np.array(table), np.concatenate([scaled(right, right) for right in truths])
    return result


def test_names_and_texts():
    assert len({c.name for c in bugs.ALL}) == len(bugs.ALL) == len({c.text for c in bugs.ALL})
    for c in bugs.ALL:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", c.name), c.name
        assert c.text.strip() and not c.text.endswith("."), c.name
        assert set(c.ops) <= set(OPS) and len(set(c.ops)) == len(c.ops) > 0, c.name
        assert bugs.find(c.name) is c


def test_what_does_not_exist():
    with pytest.raises(ValueError, match="no bug or convention is called 'dx-is-perfect'"):
        bugs.find("dx-is-perfect")
    with pytest.raises(ValueError, match="op is 'ln'; expected one of bn, brn, kn, gn, gkn"):
        bugs.changes("ln")


@pytest.mark.parametrize("op", OPS)
def test_counts(op):
    every, seeded, conventions = bugs.changes(op), bugs.changes(op, False), bugs.changes(op, True)
    assert len(seeded) >= LEAST[op]
    assert len(every) == len(seeded) + len(conventions)
    assert sum(c.convention for c in bugs.ALL) >= CONVENTIONS


def test_every_changed_step_exists():
    functions = {f.__name__ for plan in PLANS for f in plan.values()}
    for c in bugs.ALL:
        assert set(c.steps) <= functions, c.name


@pytest.mark.parametrize("op", OPS)
def test_every_change_has_an_effect(op, rows):
    names, table, truth = rows[op]
    effect = np.abs(table - truth).max(axis=1)
    assert effect.min() > VISIBLE, names[effect.argmin()]


@pytest.mark.parametrize("op", OPS)
def test_no_two_changes_are_the_same(op, rows):
    names, table, _ = rows[op]
    for i, row in enumerate(table[:-1]):
        distance = np.abs(table[i + 1 :] - row).max(axis=1)
        assert distance.min() > VISIBLE, (names[i], names[i + 1 + distance.argmin()])


@pytest.mark.parametrize("op", OPS)
def test_float32_stays_float32(op):
    for c in CASES[op].values():
        for change in bugs.changes(op):
            results = evaluate(c, Arithmetic("float32"), changes=change.steps)
            assert {np.asarray(a).dtype for a in results.values()} == {np.dtype("float32")}, change.name


SMALL = [(1, 1, 1, 1), (3, 1, 1, 1), (1, 2, 3, 4), (1, 1, 1, 6)]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_no_change_fails_on_a_small_case(op, shape):
    """One sample, one channel, one image, no gamma, a gain and a noise for all channels."""
    options = [{"gamma": None, "beta": None}, {"groups": 1}]
    if op in ("kn", "gkn"):
        options += [{"gain": 0.4, "noise": 0.2}, {"transition": "diagonal"}, {"prior": False}]
    if op == "gn":
        options += [{"groups": shape[-1]}]
    for option in options:
        c = case(op, "small", "small", shape, **({"groups": 1} | option))
        right = evaluate(c)
        for change in bugs.changes(op):
            results = evaluate(c, changes=change.steps)
            assert {n: np.shape(a) for n, a in results.items()} == {n: np.shape(a) for n, a in right.items()}, change


def loss(c, changes):
    """What the gradients of a case are gradients of."""
    out = evaluate(c, changes=changes)
    pairs = [("y", "dy"), ("estimate_mean", "destimate_mean"), ("estimate_var", "destimate_var")]
    return sum(np.sum(out[a] * c.upstream[b]) for a, b in pairs if a in out and b in c.upstream)


def slope(c, name, direction, changes, h=1e-5):
    """The derivative of the loss along a direction of one tensor, by a central difference."""
    there = [c._replace(tensors=c.tensors | {name: c.tensors[name] + s * h * direction}) for s in (1, -1)]
    return (loss(there[0], changes) - loss(there[1], changes)) / (2 * h)


def worst_slope(c, changes, names=None):
    """The largest relative error of the gradients of a case against the slope of its own loss."""
    out, rng, worst = evaluate(c, changes=changes), np.random.default_rng(7), 0.0
    for name in names or [n for n in c.tensors if "d" + n in out]:
        for _ in range(3):
            direction = rng.standard_normal(np.shape(c.tensors[name]))
            claimed, measured = np.sum(out["d" + name] * direction), slope(c, name, direction, changes)
            worst = max(worst, abs(claimed - measured) / (np.linalg.norm(out["d" + name]) + 1e-30))
    return worst


def held(c, changes, *corrections):
    """The changes with r, d or both held at what they are."""
    out = evaluate(c, changes=changes)
    return changes | {name: (lambda a=out[name]: lambda: a[None, None])() for name in corrections}


@pytest.mark.parametrize("op", OPS)
def test_gradients_of_conventions_follow_from_their_forward(op):
    c = built(op, dtype="float64", eps=0.5, previous=6 if op == "kn" else 3)
    for change in [None, *bugs.changes(op, True)]:
        changes = {} if change is None else change.steps
        if {"saved_mean", "saved_var"} & set(changes):
            continue
        changes = held(c, changes, "corr_r", "corr_d") if op == "brn" else changes
        assert worst_slope(c, changes) < 1e-7, change and change.name


@pytest.mark.parametrize(
    ("name", "through", "still"),
    [
        ("dx-through-r", ("corr_r",), ("corr_d",)),
        ("dx-through-d", ("corr_d",), ("corr_r",)),
        ("dx-through-r-and-d", ("corr_r", "corr_d"), ()),
    ],
)
def test_gradient_through_the_corrections(name, through, still):
    """These are what automatic differentiation gives where the corrections are not held constant."""
    c = built("brn", dtype="float64", eps=0.5, **CLIPPED)
    out = evaluate(c)
    inside = np.abs(np.log(out["corr_r"])) < np.log(1.5) * 0.999, np.abs(out["corr_d"]) < 0.999
    assert all(0 < a.sum() < a.size for a in inside)  # both, clipped and not
    changes = held(c, bugs.find(name).steps, *still)
    assert worst_slope(c, changes, ["x"]) < 1e-7
    assert worst_slope(c, held(c, changes, *through), ["x"]) > 1e-3


def test_a_change_that_lacks_what_it_needs_leaves_a_plan_alone():
    c = built("brn", training=False)
    right, wrong = evaluate(c), evaluate(c, changes=bugs.find("dgamma-from-z").steps)
    assert all(np.array_equal(right[name], wrong[name]) for name in right)
