"""Holds `oracle.check` to its promise: a kernel's results for anybody's tensors are scored like those of a case."""

import importlib

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref.oracle import blocks, bugs, core
from kalnorm_ref.oracle.arithmetic import Arithmetic, evaluate
from kalnorm_ref.oracle.case import rounded
from kalnorm_ref.oracle.reference import expected

checking = importlib.import_module("kalnorm_ref.oracle.check")  # the name in the package is the function
OPS = ("bn", "brn", "kn", "gn", "gkn")
TREE = Arithmetic("float32", "tree")
CASES = [
    case
    for case in core.choose(["*/float32", "*/float64", "*/bfloat16"])
    if not case.before and not case.unjudged and case.view is None and case.tensors["x"].size
]
ORDINARY = {
    op: next(c for c in CASES if c.op == op and c.dtype == "float32" and c.training and c.samples > 4) for op in OPS
}


def question(case):
    """given and params of check for a case."""
    params = {**case.params, "layout": case.layout, "training": case.training, "dtype": case.dtype}
    return {**case.tensors, **case.upstream, **case.state}, params


def kernel(case, change=None):
    """What a float32 kernel returns, the mistake of a change in it."""
    arithmetic = Arithmetic() if case.dtype == "float64" else TREE
    results = evaluate(case, arithmetic, change.steps if change else {})
    return results | {name: rounded(results[name], case.dtype) for name in ("y", "dx")}


def batch(shape=(6, 4, 5), seed=3):
    """given of batch normalization, and what the compiled kernels return for it."""
    rng = np.random.default_rng(seed)
    x = (3 + 2 * rng.standard_normal(shape)).astype("f4")
    given = {"x": x, "dy": rng.standard_normal(shape).astype("f4")}
    given |= {name: rng.uniform(0.5, 2, shape[-1]).astype("f4") for name in ("gamma", "beta")}
    rows = x.reshape(-1, shape[-1])
    y, _, cache = kr.batch_norm_forward(rows, given["gamma"], given["beta"])
    dx, dgamma, dbeta = kr.batch_norm_backward(given["dy"].reshape(rows.shape), cache)
    return given, {"y": y.reshape(shape), "dx": dx.reshape(shape), "dgamma": dgamma, "dbeta": dbeta}


# ---- right and wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_a_right_kernel_passes_every_case_of_the_core(op):
    cases = [case for case in CASES if case.op == op]
    assert len(cases) > 20
    for case in cases:
        given, params = question(case)
        report = kr.oracle.check(op, given, kernel(case), params)
        assert report.exit_code == 0, str(report)
        if case.samples > 1 or not case.training:
            [result] = report.results
            assert {t.name for t in result.tensors} == expected(case).keys()
            assert result.missing == ()


@pytest.mark.parametrize("op", OPS)
def test_mistakes_are_caught_and_named(op):
    """Those that show in the ordinary case at all: nothing is right with a mistake that moves a result."""
    case = ORDINARY[op]
    given, params = question(case)
    caught = named = 0
    right = kernel(case)
    for change in bugs.changes(op)[::4]:
        wrong = kernel(case, change)
        moved = max(
            float(np.nanmax(np.abs(wrong[n] - right[n]), initial=0)) for n in right if wrong[n].shape == right[n].shape
        )
        if moved < 1e-3:
            continue
        [result] = (report := kr.oracle.check(op, given, wrong, params)).results
        assert report.exit_code == 1, change.name
        caught += 1
        named += change.name in result.explanations
    assert caught >= 5
    assert named == caught


def test_one_wrong_element_is_found():
    given, returned = batch()
    returned["dx"][4, 1, 3] += 0.01
    [result] = kr.oracle.check("bn", given, returned).results
    [wrong] = [t for t in result.tensors if t.verdict != "PASS"]
    assert (wrong.name, wrong.index, wrong.verdict) == ("dx", (4, 1, 3), "FAIL")
    assert (wrong.got, wrong.ratio > 100) == (float(returned["dx"][4, 1, 3]), True)


def test_a_declared_convention_passes():
    given, returned = batch()
    given |= {"running_mean": np.zeros(5, "f4"), "running_var": np.ones(5, "f4")}
    rows = given["x"].reshape(-1, 5).astype(float)
    returned["running_mean"] = (0.1 * rows.mean(axis=0)).astype("f4")
    returned["running_var"] = (0.9 + 0.1 * rows.var(axis=0, ddof=1)).astype("f4")
    params = {"decay": 0.9}
    [result] = kr.oracle.check("bn", given, returned, params).results
    assert result.verdict == "CONVENTION:running-var-unbiased"
    params["conventions"] = ["running-var-unbiased"]
    assert kr.oracle.check("bn", given, returned, params).exit_code == 0
    params["conventions"] = ["mine"]
    with pytest.raises(ValueError, match=r"^no convention is called 'mine'; expected some of "):
        kr.oracle.check("bn", given, returned, params)


def test_results_in_a_coarser_type_are_judged_as_that():
    """y of a bfloat16 case may be bfloat16; y of a float32 case may not."""
    given, returned = batch()
    returned = {"y": rounded(returned["y"], "bfloat16").astype("f4")}
    assert kr.oracle.check("bn", given, returned).exit_code == 1
    given["x"] = rounded(given["x"], "bfloat16")
    given["dy"] = rounded(given["dy"], "bfloat16")
    y, _, _ = kr.batch_norm_forward(given["x"].reshape(-1, 5), given["gamma"], given["beta"])
    returned = {"y": rounded(y.reshape(given["x"].shape), "bfloat16")}
    [result] = kr.oracle.check("bn", given, returned, {"dtype": "bfloat16"}).results
    assert result.tensors[0].verdict in ("PASS", "EXACT")
    assert kr.oracle.check("bn", given, returned, {"dtype": "float32"}).exit_code == 1


def test_one_value_per_channel_has_several_right_answers():
    x, beta = np.array([[1.5, -2.0, 3.0]]), np.array([0.5, 1.0, -1.0])
    for y, code in ((beta[None], 0), (np.full((1, 3), np.nan), 0), (beta[None] + 1, 1)):
        assert kr.oracle.check("bn", {"x": x, "beta": beta}, {"y": y}).exit_code == code


def test_corrections_in_place_of_running_values():
    case = ORDINARY["brn"]
    given, params = question(case)
    right = kernel(case)
    corrections = {name: right[name].astype("f4") for name in ("corr_r", "corr_d")}
    given = {name: a for name, a in given.items() if not name.startswith("running")} | corrections
    rows = case.tensors["x"].reshape(-1, case.channels)
    y, _, cache = kr.batch_renorm_forward(
        rows, given["gamma"], given["beta"], given["corr_r"], given["corr_d"], params["eps"]
    )
    dx, dgamma, dbeta = kr.batch_renorm_backward(case.upstream["dy"].reshape(rows.shape), cache)
    returned = {"y": y.reshape(case.tensors["x"].shape), "dx": dx.reshape(case.tensors["x"].shape)}
    returned = {name: a.astype("f4") for name, a in (returned | {"dgamma": dgamma, "dbeta": dbeta}).items()}
    params = {name: params[name] for name in ("eps", "layout", "dtype")}
    assert case.layout[-1] == "C"
    assert kr.oracle.check("brn", given, returned, params).exit_code == 0
    without_r = returned["dx"] / given["corr_r"]
    assert kr.oracle.check("brn", given, returned | {"dx": without_r}, params).exit_code == 1
    with pytest.raises(
        ValueError, match=r"^returned has 'corr_r'; from what was given follow y, mean, var, rstd, dx, dgamma"
    ):
        kr.oracle.check("brn", given, returned | corrections, params)


# ---- what it takes -----------------------------------------------------------------------------------------------


def test_pytorch_tensors():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(5)
    x = (3 + 2 * torch.randn(4, 5, 3, 3, generator=generator)).to(torch.bfloat16).requires_grad_()
    dy = torch.randn(x.shape, generator=generator).to(torch.bfloat16)
    gamma = torch.rand(5, generator=generator).add(0.5).requires_grad_()
    beta = torch.randn(5, generator=generator).requires_grad_()
    mean, var = torch.zeros(5), torch.ones(5)
    given = {"x": x, "dy": dy, "gamma": gamma, "beta": beta, "running_mean": mean.clone(), "running_var": var.clone()}
    y = torch.nn.functional.batch_norm(x, mean, var, gamma, beta, training=True, momentum=0.1)
    y.backward(dy)
    returned = {
        "y": y,
        "dx": x.grad,
        "dgamma": gamma.grad,
        "dbeta": beta.grad,
        "running_mean": mean,
        "running_var": var,
    }
    params = {"layout": "NCHW", "decay": 0.9, "conventions": ["running-var-unbiased"]}
    report = kr.oracle.check("bn", given, returned, params)
    assert (report.exit_code, report.results[0].case.dtype) == (0, "bfloat16"), str(report)
    returned["dx"] = x.grad * 1.25
    assert kr.oracle.check("bn", given, returned, params).exit_code == 1


def test_whatever_has_dlpack():
    class Foreign:
        def __init__(self, a):
            self.a = a

        def __dlpack__(self, **options):
            return self.a.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.a.__dlpack_device__()

    given, returned = batch()
    foreign = [{name: Foreign(a) for name, a in tensors.items()} for tensors in (given, returned)]
    report = kr.oracle.check("bn", *foreign)
    assert (report.exit_code, len(report.results[0].tensors)) == (0, 4)


def test_without_dy_no_gradient_is_judged():
    given, returned = batch()
    del given["dy"]
    with pytest.raises(ValueError, match=r"^returned has 'dx'; from what was given follow y, mean, var, rstd$"):
        kr.oracle.check("bn", given, returned)
    [result] = kr.oracle.check("bn", given, {"y": returned["y"]}).results
    assert (result.verdict, result.missing) == ("PASS", ("mean", "var", "rstd"))


def test_gradients_alone_are_enough():
    given, returned = batch()
    assert kr.oracle.check("bn", given, {"dx": returned["dx"]}).exit_code == 0
    assert kr.oracle.check("bn", given, {"dx": -returned["dx"]}).exit_code == 1


def test_the_layout_is_channels_last_unless_told():
    given, returned = batch((4, 4, 4, 4))
    assert kr.oracle.check("bn", given, returned).exit_code == 0
    assert kr.oracle.check("bn", given, returned, {"layout": "NCHW"}).exit_code == 1


# ---- blocks of channels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_a_block_is_the_whole_case_there(op):
    """Results of some channels or groups, computed alone, are those of the whole."""
    diagonal = [c for c in CASES if c.op == op and "transition" in c.tensors and c.tensors["transition"].ndim == 1]
    for case in [ORDINARY[op], *diagonal[:1]]:
        want = expected(case)
        got = {name: (a, "float64") for name, a in want.items() if name not in blocks.mixing(case)}
        parts = blocks.split(case, got, 1)
        assert len(parts) == (case.params["groups"] if op in ("gn", "gkn") else case.channels) > 1
        for _, part, some in parts:
            alone = expected(part)
            for name, (a, _) in some.items():
                np.testing.assert_allclose(alone[name], a, rtol=1e-11, atol=1e-12)


def test_what_sums_over_channels_stays_whole():
    case = ORDINARY["kn"]
    assert case.tensors["transition"].ndim == 2
    assert len(blocks.split(case, {name: (a, "float64") for name, a in expected(case).items()}, 1)) == 1
    assert len(blocks.split(case, {"y": (case.tensors["x"], "float64")}, 1)) == case.channels


@pytest.mark.parametrize("op", OPS)
def test_blocks_find_the_same(op, monkeypatch):
    """Cut into single channels or groups, the verdict and the place are those of the whole."""
    case = ORDINARY[op]
    given, params = question(case)
    returned = {name: a for name, a in kernel(case).items() if name not in blocks.mixing(case)}
    wrong = {**returned, "y": returned["y"] - 0.25}
    wrong["dx"] = wrong["dx"].copy()
    place = tuple(n - 1 for n in wrong["dx"].shape)
    wrong["dx"][place] += 7.0
    whole = [kr.oracle.check(op, given, tensors, params).results[0] for tensors in (returned, wrong)]
    monkeypatch.setattr(checking, "split", lambda case, got: blocks.split(case, got, 1))
    parts = [kr.oracle.check(op, given, tensors, params).results[0] for tensors in (returned, wrong)]
    for one, other in zip(whole, parts, strict=True):
        assert one.verdict == other.verdict
        assert [(t.name, t.verdict, t.index) for t in one.tensors] == [
            (t.name, t.verdict, t.index) for t in other.tensors
        ]
        np.testing.assert_allclose([t.ratio for t in one.tensors], [t.ratio for t in other.tensors], rtol=1e-6)
    assert {t.name: t.index for t in parts[1].tensors}["dx"] == place


def test_a_reason_is_found_in_blocks(monkeypatch):
    monkeypatch.setattr(checking, "split", lambda case, got: blocks.split(case, got, 1))
    for op, name in (("bn", "dx-lacks-projection"), ("gn", "eps-outside-root")):
        case = ORDINARY[op]
        given, params = question(case)
        [result] = kr.oracle.check(op, given, kernel(case, bugs.find(name)), params).results
        assert name in result.explanations
        assert result.verdict.endswith(f":{result.explanations[0]}")
        assert {t.verdict for t in result.tensors} <= {result.verdict, "PASS", "EXACT"}


def test_a_large_batch():
    given, returned = batch((64, 16, 16, 32))
    assert kr.oracle.check("bn", given, returned).exit_code == 0
    returned["dx"][40, 3, 4, 20] += 0.01
    [result] = kr.oracle.check("bn", given, returned).results
    assert [(t.name, t.index) for t in result.tensors if t.verdict == "FAIL"] == [("dx", (40, 3, 4, 20))]
