"""Holds the traces of moments on their way to the symbols of their equations."""

import numpy as np
import pytest
from test_trace import symbols_of

import kalnorm_ref as kr


@pytest.mark.parametrize("layer", [False, True])
def test_the_gradient_through_a_rectifier_ends_with_its_two_equations(layer):
    given = kr.Moments(np.array([[1.0, -2.0]]), np.array([[1.0, 4.0]]))

    def through(estimate):
        relu = kr.ReLU()
        relu.transport(estimate)
        return (relu.transport_backward if layer else kr.transport.relu_backward)(estimate, estimate)

    trace = kr.trace(through, given)
    assert symbols_of(trace)[-2:] == ["dm", "dv"] and all(step.equation.count("C1") for step in trace.steps[-2:])


def test_a_mixture_has_its_own_symbols():
    estimate = kr.Moments(np.array([[1.0], [3.0], [0.0]]), np.ones((3, 1)))
    upstream = kr.Moments(np.ones((2, 1)), np.ones((2, 1)))
    assert symbols_of(kr.trace(kr.transport.mixture, estimate, 2))[-1] == "var"
    backward = kr.trace(kr.transport.mixture_backward, upstream, estimate, 2)
    assert symbols_of(backward)[:2] == ["dmean", "dvar"] and symbols_of(backward)[-2:] == ["dv_i", "dmu_i"]
