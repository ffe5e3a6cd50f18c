"""Plants mistakes everywhere the gradient proof looks, and sees it fail and name the place; takes judges away."""

import json
import re
import sys

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import backend, batch_norm, cli, full_covariance, gradcheck, gradproof, kalman_norm, moments, transport
from kalnorm_ref.gradproof import BOUNDS, PAIRS, proof, report
from kalnorm_ref.gradproof.loops import normalizers

FOUR = list(BOUNDS)[:4]


def run(capsys, *words):
    """Exit code and lines of `kalnorm-ref gradproof`."""
    code = cli.main(["gradproof", *words])
    return code, capsys.readouterr().out.splitlines()


def off(result, which, by=1e-5):
    """A tuple of gradients, of which one is off by a part in 1e5."""
    result = result if type(result) is tuple else (result,)
    scaled = kr.backend._map(lambda a: a * (1 + by), result[which])
    return (*result[:which], scaled, *result[which + 1 :])


def plant(monkeypatch, pair, which, only=("numpy", "cython")):
    """Make gradient number `which` of a pair wrong, in the backends `only`."""
    right = getattr(pair.owner, pair.backward)

    def wrong(*arguments):
        return off(right(*arguments), which) if kr.get_backend() in only else right(*arguments)

    monkeypatch.setattr(pair.owner, pair.backward, wrong)


WRONG = [(p, which) for p in PAIRS.values() if p.kind != "loss" for which in range(len(p.differentiable))]


@pytest.mark.parametrize(("pair", "which"), WRONG, ids=[f"{p.name} {p.differentiable[w][1]}" for p, w in WRONG])
def test_a_wrong_gradient_is_seen_by_all_four_judges_and_named(pair, which, monkeypatch):
    plant(monkeypatch, pair, which)
    found, argument = gradproof.prove([pair.name]), pair.differentiable[which][1]
    assert re.search(rf"FAILED, \d+ figures: {pair.name}.*: {argument}, complex step", report.verdict(found))
    assert {(row.argument, judge) for row, judge, _ in gradproof.failures(found)} == {
        (argument, judge) for judge in FOUR
    }


def test_a_wrong_gradient_of_the_loss_is_seen(monkeypatch, capsys):
    pair = PAIRS["cross_entropy"]
    right = getattr(pair.owner, pair.forward)
    monkeypatch.setattr(pair.owner, pair.forward, lambda *a: off(right(*a), 1))
    code, lines = run(capsys, "cross_entropy")
    assert code == 1 and "cross_entropy: logits, complex step" in lines[-1]


TWINS = [pair for pair in PAIRS.values() if pair.twin]


@pytest.mark.parametrize("pair", TWINS, ids=[pair.name for pair in TWINS])
def test_a_mistake_in_the_twin_is_seen_in_its_column_alone(pair, monkeypatch):
    plant(monkeypatch, pair, 0, only=("cython",))
    found, argument = gradproof.prove([pair.name]), pair.differentiable[0][1]
    assert re.search(rf"FAILED, \d figures: {pair.name}.*: {argument}, twin 1\.0e-05", report.verdict(found))
    assert {judge for _, judge, _ in gradproof.failures(found)} == {"twin"}


def test_a_mistake_in_the_twin_makes_the_exit_code_1(monkeypatch, capsys):
    plant(monkeypatch, PAIRS["kalman_norm"], 4, only=("cython",))
    code, lines = run(capsys, "observe", "kalman_norm")
    assert code == 1 and "kalman_norm, a prior each: gain, twin 1.0e-05" in lines[-1]


def test_a_wrong_gradient_makes_the_exit_code_1(monkeypatch, capsys):
    plant(monkeypatch, PAIRS["transport.linear"], 1)
    code, lines = run(capsys, "transport")
    assert code == 1
    assert lines[-1].startswith("gradproof: FAILED, 4 figures: transport.linear: weight, complex step 1.0e-05; ")


def columns_beyond(name):
    return {judge for item, judge, _ in gradproof.failures(gradproof.prove([name])) if isinstance(item, proof.Row)}


def test_a_mistake_that_forward_and_backward_share_is_seen_by_the_equations_alone(monkeypatch, capsys):
    right = batch_norm.batch_norm_forward
    monkeypatch.setattr(batch_norm, "batch_norm_forward", lambda x, g, b, eps: right(x, g, b, 2 * eps))
    assert run(capsys, "batch_norm")[0] == 1
    assert columns_beyond("batch_norm") == {"mpmath", "loops"}


def test_a_constant_in_the_forward_is_seen_in_the_result(monkeypatch):
    right = moments.observe
    monkeypatch.setattr(moments, "observe", lambda x: right(x)._replace(mean=right(x).mean + 1e-6))
    found = gradproof.failures(gradproof.prove(["observe"]))
    assert ("result", "mpmath") in {(row.argument, judge) for row, judge, _ in found}


@pytest.mark.parametrize("judge", FOUR[:2])
def test_a_mistake_in_a_numerical_derivative_is_seen_in_its_column_alone(judge, monkeypatch):
    right = getattr(gradcheck, judge)
    monkeypatch.setattr(gradcheck, judge, lambda *a: off(right(*a), 0)[0])
    assert columns_beyond("affine") == {judge}


def test_a_mistake_in_the_backward_of_the_loops_is_seen_in_their_column_alone(monkeypatch, capsys):
    right = normalizers.fuse_backward
    monkeypatch.setattr(normalizers, "fuse_backward", lambda *a, mistake: right(*a, mistake=mistake or "p_for_q"))
    assert run(capsys, "fuse")[0] == 1
    assert columns_beyond("fuse") == {"loops"}


def test_a_mistake_in_the_forward_of_the_loops_is_seen_in_50_digits(monkeypatch, capsys):
    right = normalizers.fuse
    monkeypatch.setattr(normalizers, "fuse", lambda prior, observed, gain: right(observed, prior, gain))
    code, lines = run(capsys, "fuse")
    assert code == 1 and "fuse, a gain each: prior, 50 digits" in lines[-1]


@pytest.mark.parametrize("judge", FOUR)
def test_a_judge_that_misses_planted_mistakes_makes_the_proof_fail(judge, monkeypatch, capsys):
    monkeypatch.setitem(BOUNDS, judge, 1e9)
    code, lines = run(capsys, "transport.max_pool")
    assert code == 1
    assert lines[-1].startswith("gradproof: FAILED, 3 figures: transport.max_pool: half_forgotten not rejected, ")
    assert lines[-2].startswith("planted mistakes: 0 of 3 rejected by every judge; ")


def test_a_wrong_shape_is_infinitely_wrong(monkeypatch, capsys):
    right = kalman_norm.kalman_norm_backward
    monkeypatch.setattr(kalman_norm, "kalman_norm_backward", lambda *a: (right(*a)[0][0], *right(*a)[1:]))
    code, lines = run(capsys, "kalman_norm")
    assert code == 1 and "kalman_norm, a prior each: x, complex step inf" in lines[-1]


def test_nan_fails(monkeypatch, capsys):
    right = transport.relu_backward
    monkeypatch.setattr(transport, "relu_backward", lambda *a: right(*a)._replace(mean=right(*a).mean * np.nan))
    code, lines = run(capsys, "transport.relu")
    assert code == 1 and "complex step: at most nan (transport.relu: estimate), bound 1e-12" in lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[:-1], "predict_backward returned 3 gradients; expected 4"),
        (lambda found: (None, *found[1:]), "predict_backward: mean and its gradient must both be None, or neither"),
    ],
)
def test_a_missing_gradient_is_refused(change, message, monkeypatch):
    right = full_covariance.predict_backward
    monkeypatch.setattr(full_covariance, "predict_backward", lambda *a: change(right(*a)))
    with pytest.raises(ValueError, match=f"^{message}\ngradproof of full.predict$"):
        gradproof.prove(["full.predict"])


# ---- what is missing ----------------------------------------------------------------------------------------------


def test_without_mpmath_it_says_so_and_judges_the_rest(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mpmath", None)
    code, lines = run(capsys, "fuse")
    assert code == 0
    assert "50 digits: not measured: mpmath is not installed; pip install mpmath" in lines
    expected = "gradproof: passed as far as measured, without 50 digits: 6 gradients of 1 pairs within their bounds"
    assert lines[-1] == expected
    assert all("mpmath" not in row.figures for row in gradproof.prove(["fuse"]).rows)
    plant(monkeypatch, PAIRS["fuse"], 0)
    assert run(capsys, "fuse")[0] == 1


def test_without_the_compiled_backend_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(backend, "_core", None)
    with kr.use_backend("numpy"):
        code, lines = run(capsys, "fuse")
    assert code == 0
    assert lines[-1].startswith("gradproof: passed as far as measured, without twin: ")
    assert any(
        line.startswith("twin: not measured: the compiled backend of kalnorm_ref is not built") for line in lines
    )


def test_json_holds_the_rows_and_the_verdict(monkeypatch, capsys):
    plant(monkeypatch, PAIRS["predict"], 1)
    monkeypatch.setitem(sys.modules, "mpmath", None)
    assert cli.main(["gradproof", "predict", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (
        not found["passed"] and found["verdict"].startswith("gradproof: FAILED") and list(found["absent"]) == ["mpmath"]
    )
    failed = {row["argument"]: row["failed"] for row in found["rows"] if row["case"] == "matrix"}
    three = ["complex_step", "central_difference", "loops"]
    assert failed == {"estimate": [], "transition": three, "noise": [], "result": []}
    assert found["rows"][0]["twin"] <= found["bounds"]["twin"]
