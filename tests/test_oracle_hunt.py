"""Holds `oracle.hunt` to its rules: one bug, told by the right accusation alone, and true alibis for the others."""

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref.oracle import bugs
from kalnorm_ref.oracle.hunting import experiments, methods
from kalnorm_ref.oracle.hunting.rules import results

SEEDS = range(40)


def guilty(hunt):
    (name,) = [s.name for s in hunt.suspects if hunt.accuse(s.name).right]
    return name


def answered(hunt):
    """What the two functions return for the batch of the hunt."""
    return results(hunt._method, hunt.forward, hunt.backward)


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda m: m.title)
def test_without_a_bug_every_experiment_passes(method):
    right = method.make({})
    for experiment in experiments.EXPERIMENTS:
        assert experiment.measure(method, *right) < experiments.PASSES, experiment.text


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda m: m.title)
def test_every_bug_shows_and_no_two_are_alike(method):
    found = {name: results(method, *method.make(bugs.find(name).steps)) for name in method.suspects}
    found["none"] = results(method, *method.make({}))
    names = list(found)
    for i, one in enumerate(names):
        for other in names[:i]:
            assert any(not np.allclose(found[one][k], found[other][k], rtol=1e-6) for k in found[one]), (one, other)


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda m: m.title)
def test_every_bug_fails_an_experiment(method):
    for name in method.suspects:
        planted = method.make(bugs.find(name).steps)
        assert max(e.measure(method, *planted) for e in experiments.EXPERIMENTS) > experiments.FAILS, name


def test_the_methods_without_a_bug_are_those_of_the_package():
    a = experiments.batch(methods.METHODS[0])
    y, _, cache = kr.batch_norm_forward(a["x"], a["gamma"], a["beta"], a["eps"])
    want = (y, *kr.batch_norm_backward(a["dy"], cache))
    for got, right in zip(results(methods.METHODS[0], *methods.METHODS[0].make({})).values(), want, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-12)
    a = experiments.batch(methods.METHODS[1])
    y, _, cache = kr.batch_renorm_forward(a["x"], a["gamma"], a["beta"], a["r"], a["d"], a["eps"])
    want = (y, *kr.batch_renorm_backward(a["dy"], cache))
    for got, right in zip(results(methods.METHODS[1], *methods.METHODS[1].make({})).values(), want, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-12)
    a = experiments.batch(methods.METHODS[2])
    prior = kr.Moments(a["prior_mean"], a["prior_var"])
    y, _, cache = kr.kalman_norm_forward(a["x"], a["gamma"], a["beta"], prior, a["gain"], a["eps"])
    dx, dgamma, dbeta, dprior, dgain = kr.kalman_norm_backward(a["dy"], None, cache)
    want = (y, dx, dgamma, dbeta, *dprior, dgain)
    for got, right in zip(results(methods.METHODS[2], *methods.METHODS[2].make({})).values(), want, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_of_six_suspects_is_guilty_and_the_others_have_an_alibi(seed):
    hunt = kr.oracle.hunt(seed)
    assert len({s.name for s in hunt.suspects}) == 6
    culprit = guilty(hunt)
    assert str(hunt.accuse(culprit).text).startswith("Yes")
    for suspect in hunt.suspects:
        if suspect.name != culprit:
            text = hunt.accuse(suspect.name).text
            assert text.startswith(f"No, {suspect.name} is innocent. ")
            assert "with that bug" in text or "With that bug" in text
            assert culprit not in text


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_alibis_are_true(seed):
    hunt = kr.oracle.hunt(seed)
    method, culprit = hunt._method, guilty(hunt)
    for suspect in hunt.suspects:
        if suspect.name == culprit:
            continue
        text = hunt.accuse(suspect.name).text
        planted = method.make(bugs.find(suspect.name).steps)
        said = [e for e in experiments.EXPERIMENTS if e.text in text]
        for experiment in said:
            assert experiment.measure(method, hunt.forward, hunt.backward) < 1e-6
            assert experiment.measure(method, *planted) > 1e-3
        if not said:
            here = {f"{value:.6g}" for a in answered(hunt).values() for value in a.ravel()}
            there = {f"{value:.6g}" for a in results(method, *planted).values() for value in a.ravel()}
            numbers = text.split("would be ")[1].removesuffix(".").split(" with that bug; here it is ")
            assert numbers[0] in there and numbers[1] in here and numbers[0] != numbers[1]


def test_the_same_seed_gives_the_same_bug():
    one, other, third = kr.oracle.hunt(11), kr.oracle.hunt(11), kr.oracle.hunt(12)
    assert one.suspects == other.suspects and guilty(one) == guilty(other)
    assert one.suspects != third.suspects


def test_every_method_and_many_bugs_come_up():
    hunts = [kr.oracle.hunt(seed) for seed in SEEDS]
    assert {h._method.title for h in hunts} == {m.title for m in methods.METHODS}
    assert len({h._guilty for h in hunts}) > 20


def test_repr_lists_the_suspects_and_does_not_tell():
    texts = []
    for seed in SEEDS:
        hunt = kr.oracle.hunt(seed)
        texts.append(repr(hunt))
        for suspect in hunt.suspects:
            assert repr(hunt).count(suspect.text) == 1
    places = [repr(h).index(f"  {h._guilty} ") for h in map(kr.oracle.hunt, SEEDS)]
    assert len(set(places)) > 5  # the guilty one stands in no fixed place


def test_hints_lead_from_the_function_to_the_result_to_an_experiment():
    for seed in SEEDS:
        hunt = kr.oracle.hunt(seed)
        first, second, third, fourth = (hunt.hint() for _ in range(4))
        right = results(hunt._method, *hunt._method.make({}))
        wrong = [k for k, a in answered(hunt).items() if not np.allclose(a, right[k], rtol=1e-9, atol=1e-9)]
        assert ("forward returns right" in first) == ("y" not in wrong)
        assert second.startswith(f"Wrong: {', '.join(wrong)}. ")
        assert third == fourth
        (experiment,) = [e for e in experiments.EXPERIMENTS if e.text in third]
        assert experiment.measure(hunt._method, hunt.forward, hunt.backward) > 1e-3


def test_the_functions_are_documented_and_take_eps():
    hunt = kr.oracle.hunt(0)
    a = hunt.batch()
    arguments = [a[name] for name in ("x", "gamma", "beta", *hunt._method.extra)]
    assert hunt.forward(*arguments).shape == a["x"].shape
    assert not np.allclose(hunt.forward(*arguments), hunt.forward(*arguments, eps=3.0))
    assert hunt.forward.__doc__ and hunt.backward.__doc__


def test_errors():
    hunt = kr.oracle.hunt(0)
    with pytest.raises(ValueError, match="no suspect is called 'nobody'; expected one of "):
        hunt.accuse("nobody")
    with pytest.raises(TypeError, match=r"seed is 1\.5; expected a whole number$"):
        kr.oracle.hunt(1.5)
    with pytest.raises(ValueError, match=r"seed is -1; expected a number >= 0$"):
        kr.oracle.hunt(-1)
