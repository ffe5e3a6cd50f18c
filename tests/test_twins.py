"""The compiled backend gives what the NumPy backend gives: every function, type, cache and accuracy."""

import inspect

import numpy as np
import pytest
import tolerances
from twin_cases import SHAPES, TWINNED, Values, backwards, cases, core, forwards, groupings, over_budget, run, same_kind

import kalnorm_ref as kr
from kalnorm_ref import backend
from kalnorm_ref.gradcheck import max_error


def test_every_twinned_function_has_a_twin_of_the_same_signature_and_a_case_here():
    assert {name for name, _ in cases(Values((4, 3)))} == set(TWINNED)
    for name, function in TWINNED.items():
        assert inspect.signature(getattr(core, name)) == inspect.signature(function), name


@pytest.mark.parametrize("shape", SHAPES)
def test_float64_results_and_caches_are_numpys(shape):
    for name, arguments in cases(Values(shape)):
        result, expected = run(name, arguments, "cython"), run(name, arguments, "numpy")
        same_kind(result, expected)
        assert max_error(result, expected) <= tolerances.TWINS, name


@pytest.mark.parametrize("shape", [(2, 37, 5), (4500, 3)])
def test_float32_results_have_the_kind_of_numpys_and_are_close(shape, each_set):
    for name, arguments in cases(Values(shape, dtype=np.float32)):
        expected = run(name, arguments, "numpy")
        for _ in each_set():
            result = run(name, arguments, "cython")
            same_kind(result, expected)
            assert max_error(result, expected) <= tolerances.TWINS_FLOAT32, name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cache_of_one_backend_works_in_the_other(dtype):
    for ours, theirs in zip(
        cases(Values((2, 37, 5), dtype=dtype), "cython"), cases(Values((2, 37, 5), dtype=dtype), "numpy"), strict=True
    ):
        name, arguments = ours
        if hasattr(arguments[-1], "x"):
            same_kind(arguments[-1], theirs[1][-1])
            results = [run(name, a, which) for a in (arguments, theirs[1]) for which in backend.BACKENDS]
            limit = tolerances.TWINS if dtype == np.float64 else tolerances.TWINS_FLOAT32
            assert max(max_error(result, results[-2]) for result in results) <= limit, name


def test_a_cache_keeps_the_callers_x():
    v = Values((6, 3), backwards, np.float32)
    for name, arguments in (*forwards(v), *groupings(v)):
        assert run(name, arguments, "cython")[-1].x is arguments[0], name


@pytest.mark.parametrize("shape", [(4500, 3), (300, 300), (2, 37, 5)])
def test_variance_is_as_exact_far_from_zero_as_near(shape):
    """Multiples of 2^-20 moved by 2^30: no number is rounded, but every tile's mean is."""
    x = np.random.default_rng(4).integers(-(2**21), 2**21, shape) / 2.0**20
    var, expected = run("observe", (x + 2.0**30,), "cython").var, run("observe", (x,), "numpy").var
    assert max_error(var, expected) <= tolerances.TWINS


@pytest.mark.parametrize("offset", [0, 300, 1000])
@pytest.mark.parametrize("method", ["BN", "BRN", "KN", "GN", "GKN"])
def test_float32_keeps_the_error_law_at_any_offset(method, offset, each_set):
    """Every tensor, element by element, against NumPy in float64, within a budget that grows with kappa."""
    m, eps = 3000, 1e-5
    v = Values((m, 5), dtype=np.float32, offset=1.5 * offset, seed=3)
    fusion = kr.Moments(v.x[0], v.positive(5)), v.unit(5)
    given = {"BRN": v.corrections, "KN": fusion, "GKN": fusion}.get(method, ())
    for _ in each_set():
        found = over_budget(method, v, given, eps)
        assert len(found) == (9 if method.endswith("KN") else 6) and max(found.values()) <= 1
