"""The catalogue: its cases are well formed and the same every time; honest code passes them, and zeros do not."""

import functools
import io
import re

import numpy as np
import pytest

from kalnorm_ref.oracle.arithmetic import EXACT, Arithmetic, evaluate
from kalnorm_ref.oracle.arrays import storage
from kalnorm_ref.oracle.budget import TREE, budget, serial, stored
from kalnorm_ref.oracle.case import OPS, UNITS, rounded
from kalnorm_ref.oracle.catalogue import cases
from kalnorm_ref.oracle.catalogue.build import case as build
from kalnorm_ref.oracle.reference import expected
from kalnorm_ref.oracle.verdict import judged

KINDS = "tree", "serial", "chunked", "welford"
each_op = pytest.mark.parametrize("op", OPS)


@functools.cache
def core(op):
    return list(cases(op))


@functools.cache
def truths(op):
    """(case, expected) of the cases that have a sample."""
    return [(case, expected(case)) for case in core(op) if case.tensors["x"].size]


def arrays(case):
    """(storage type, array) of all inputs."""
    named = [*case.tensors.items(), *case.upstream.items(), *case.state.items(), *(("x", x) for x in case.before)]
    return [(storage(case, name), a) for name, a in named]


# ---- form --------------------------------------------------------------------------------------------------------


def test_ids():
    ids = [case.id for case in cases()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"({'|'.join(OPS)})/[A-Za-z0-9.-]+/({'|'.join(UNITS)})", one) for one in ids)
    assert ids == [case.id for op in OPS for case in core(op)]
    assert all(case.id == f"{case.op}/{case.id.split('/')[1]}/{case.dtype}" for case in cases())


@each_op
def test_every_case_has_its_reason(op):
    assert all(re.fullmatch(r"\S.{19,170}[.]", case.why) for case in core(op))


@each_op
def test_two_builds_are_bitwise_equal(op):
    for first, second in zip(core(op), cases(op), strict=True):
        assert first.id == second.id
        for (_, a), (_, b) in zip(arrays(first), arrays(second), strict=True):
            assert a.tobytes() == b.tobytes(), first.id


@each_op
def test_another_seed_gives_other_values(op):
    same = [a.id for a, b in zip(core(op), cases(op, seed=1), strict=True) if same_input(a, b)]
    assert same == [], "these do not depend on the seed"


def same_input(a, b):
    pairs = zip(arrays(a), arrays(b), strict=True)
    return a.tensors["x"].size and all(np.array_equal(one, other, equal_nan=True) for (_, one), (_, other) in pairs)


@each_op
def test_inputs_are_representable(op):
    for case in core(op):
        for dtype, a in arrays(case):
            assert a.dtype == np.float64
            assert rounded(a, dtype).tobytes() == a.tobytes(), case.id


@each_op
def test_shapes_fit_the_layout(op):
    for case in core(op):
        x, c = case.tensors["x"], case.channels
        assert x.ndim == len(case.layout)
        assert all(a.shape == x.shape for a in (case.upstream["dy"], *case.before))
        assert all(case.tensors[name].shape == (c,) for name in ("gamma", "beta") if name in case.tensors)
        assert all(a.shape == (c,) for a in case.state.values())


def test_the_core_is_small():
    packed = io.BytesIO()
    kept = {}
    for op in OPS:
        for case, want in truths(op):
            for dtype, a in arrays(case):
                kept.setdefault(dtype, []).append(a.ravel())
            kept.setdefault("float64", []).extend(a.ravel() for a in want.values())
    narrow = {"float64": "f8", "float32": "f4", "bfloat16": "f4", "float16": "f2"}
    joined = {dtype: np.concatenate(parts).astype(narrow[dtype]) for dtype, parts in kept.items()}
    joined["bfloat16"] = (joined["bfloat16"].view(np.uint32) >> 16).astype(np.uint16)
    np.savez_compressed(packed, **joined)
    raw = sum(a.nbytes for a in joined.values())
    assert packed.tell() <= 2_000_000, f"{packed.tell()} bytes packed, {raw} unpacked"


def test_unknown_op_and_tier():
    with pytest.raises(ValueError, match=r"op is 'batch'; expected None or one of bn, brn, kn, gn, gkn$"):
        cases("batch")
    with pytest.raises(ValueError, match=r"tier is 'all'; expected one of core, extended$"):
        cases("bn", tier="all")


def test_what_no_case_can_have():
    with pytest.raises(TypeError, match=r"^case bn/one got epsilon; expected batches, before, .*, x$"):
        build("bn", "one", "A reason.", epsilon=1.0)
    with pytest.raises(ValueError, match=r"has shape \(4, 5\); expected 4 axes for layout NHWC$"):
        build("bn", "one", "A reason.", (4, 5))


# ---- honest code passes --------------------------------------------------------------------------------------------


def over(case, want, got, allowed):
    """Names of the results that are off by more than is allowed, or finite where they should not be."""
    found = []
    for name, a in want.items():
        with np.errstate(all="ignore"):
            right = np.abs(got[name] - a) <= allowed[name]
        right |= ~np.isfinite(a) & ~np.isfinite(got[name])
        if not right[judged(case, a.shape)].all():
            found.append(name)
    return found


@each_op
def test_the_steps_agree_with_the_definitions(op):
    for case, want in truths(op):
        got = evaluate(case, EXACT)
        assert set(got) == set(want), case.id
        assert over(case, want, got, budget(case._replace(dtype="float64"))) == [], case.id


@pytest.mark.parametrize("kind", KINDS)
@each_op
def test_honest_arithmetic_stays_within_the_budget(op, kind):
    for case, want in truths(op):
        arithmetic = Arithmetic(case.compute_dtype, kind)
        allowed = budget(case, TREE if kind == "tree" else serial(case.samples))
        allowed = stored(allowed, want, case, {name: storage(case, name) for name in want})
        got = evaluate(case, arithmetic, storage=case.dtype)
        assert over(case, want, got, allowed) == [], case.id


def one_pass(x, mean, average):
    """E[x^2] - E[x]^2."""
    return average(x * x) - mean * mean


def about_first(x, average):
    """The same about the first value of each statistic."""
    away = x - (x[:, :1] if x.ndim == 3 else x[:, :1, :, :1])
    return average(away * away) - average(away) ** 2


@pytest.mark.parametrize("name", ["offset-1000", "offset-100000"])
@pytest.mark.parametrize("op", ["bn", "gn"])
def test_an_offset_defeats_a_single_pass(op, name):
    assert defeats(f"{op}/{name}/float32", one_pass) and not defeats(f"{op}/{name}/float32", about_first)


@pytest.mark.parametrize("op", ["bn", "gn"])
def test_an_outlier_first_defeats_a_shift_by_it(op):
    assert defeats(f"{op}/outlier-first/float32", about_first) and not defeats(f"{op}/outlier-first/float32", one_pass)


def defeats(name, var):
    """Whether y with this variance, in sums like trees, is over the budget even of serial sums."""
    case, want = next(pair for pair in truths(name.partition("/")[0]) if pair[0].id == name)
    got = evaluate(case, Arithmetic("float32", "tree"), {"var": var})
    return "y" in over(case, want, got, stored(budget(case, serial(case.samples)), want, case, {}))


@each_op
def test_budgets_are_finite_where_the_truth_is(op):
    for case, want in truths(op):
        for name, a in budget(case).items():
            assert np.isfinite(a[np.isfinite(want[name]) & judged(case, a.shape)]).all(), f"{case.id} {name}"


@each_op
def test_zeros_never_pass(op):
    passed = {"y": set(), "dx": set()}
    for case, want in truths(op):
        for name in passed:
            allowed = stored(budget(case, serial(case.samples)), want, case, {})
            if over(case, {name: want[name]}, {name: 0 * np.nan_to_num(want[name])}, allowed) == []:
                passed[name].add(case.id.split("/")[1])
    assert passed["y"] == set()
    assert passed["dx"] <= NO_DX


NO_DX = {"dy-ones", "one-value-per-channel", "one-value"}  # dx is zero there, or nearly


# ---- the extended tier ----------------------------------------------------------------------------------------------


@each_op
def test_the_extended_tier_has_its_own_ids_and_more_of_everything(op):
    seen, some, most = set(), [], (0, 0)
    for i, case in enumerate(cases(op, tier="extended")):
        assert case.id not in seen
        seen.add(case.id)
        most = max(most[0], case.samples), max(most[1], case.channels)
        some += [case] if i % 97 == 0 and case.tensors["x"].size else []
    assert not seen & {case.id for case in core(op)}
    assert {name.rpartition("/")[2] for name in seen} == set(UNITS)
    assert op not in ("bn", "gn") or most == (100_000, 512)
    for case in some:
        want, got = expected(case), evaluate(case, EXACT)
        assert over(case, want, got, budget(case._replace(dtype="float64"))) == [], case.id


def test_the_extended_tier_moves_with_the_seed():
    first, second = (next(iter(cases("bn", "extended", seed))) for seed in (0, 5))
    assert (first.id, second.id) == ("bn/ordinary-seed-1/float64", "bn/ordinary-seed-6/float64")
    assert not same_input(first, second)
