"""Checks the checker: right gradients pass, gradients wrong by 0.1 % or absent do not, and nothing passes vacuously."""

import copy

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import backend as backend_module
from kalnorm_ref import gradcheck

rng = np.random.default_rng(8)
A = rng.normal(4, 2, (3, 2))
Q = np.array(0.3)


def product(a, pair, q):
    """A pure function of an array, of a pair and of a number, with nested results and one that does not count."""
    mean, var = pair
    return a * mean + q**2, (np.exp(q * var).sum(axis=-1), "cache")


PAIR = kr.Moments(np.array([1.5, -2.0]), np.array([0.5, 3.0]))
UP = rng.standard_normal((3, 2)), (np.array(0.7), None)
EXPECTED = (
    UP[0] * PAIR.mean,
    kr.Moments((UP[0] * A).sum(axis=0), 0.7 * Q * np.exp(Q * PAIR.var)),
    UP[0].sum() * 2 * Q + 0.7 * (PAIR.var * np.exp(Q * PAIR.var)).sum(),
)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_complex_step_and_central_difference_on_known_derivatives(index):
    arguments = (A, PAIR, float(Q))
    step = gradcheck.complex_step(product, arguments, index, UP)
    assert gradcheck.max_error(step, EXPECTED[index]) <= tolerances.COMPLEX_STEP
    difference = gradcheck.central_difference(product, arguments, index, UP)
    assert gradcheck.max_error(difference, EXPECTED[index]) <= tolerances.CENTRAL_DIFFERENCE
    assert isinstance(step, kr.Moments) == (index == 1)
    np.testing.assert_array_equal(A, arguments[0])


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("method", [gradcheck.complex_step, gradcheck.central_difference])
def test_check_rejects_one_wrong_element(method, index):
    arguments, tolerance = (A, PAIR, Q), tolerances.CENTRAL_DIFFERENCE
    assert 0 < gradcheck.check(product, arguments, UP, EXPECTED, tolerance, method) <= tolerance
    wrong = copy.deepcopy(EXPECTED)
    leaf = gradcheck.leaves(wrong[index])[-1]
    leaf[np.unravel_index(np.argmax(np.abs(leaf)), leaf.shape)] *= 1.001
    wrong = tuple(leaf if i == index == 2 else w for i, w in enumerate(wrong))
    with pytest.raises(
        AssertionError, match=rf"^gradient of argument {index} is off by 0\.001; tolerance {tolerance:g}$"
    ):
        gradcheck.check(product, arguments, UP, wrong, tolerance, method)


def test_check_rejects_nan_and_what_is_missing():
    with pytest.raises(AssertionError, match=r"^gradient of argument 0 is off by nan; tolerance 1$"):
        gradcheck.check(product, (A, PAIR, Q), UP, (np.full((3, 2), np.nan),), 1.0)
    message = r"^argument {} and its gradient must both be None, or neither$"
    with pytest.raises(ValueError, match=message.format(1)):
        gradcheck.check(product, (A, PAIR, Q), UP, (EXPECTED[0], None), 1.0)
    with pytest.raises(ValueError, match=message.format(2)):
        gradcheck.check(lambda a, b, c: a, (A, PAIR, None), A, (A, PAIR, A), np.inf)


def test_upstream_must_fit_the_result():
    with pytest.raises(ValueError, match=r"^upstream has shape \(2,\); expected \(3, 2\), that of the result$"):
        gradcheck.complex_step(product, (A, PAIR, Q), 0, (np.ones(2), None))
    with pytest.raises(ValueError, match=r"^upstream and the result of the function differ in structure$"):
        gradcheck.complex_step(product, (A, PAIR, Q), 0, (UP[0],))


def test_max_error():
    a = np.array([2.0, -4.0])
    assert gradcheck.max_error(a, a) == 0
    assert gradcheck.max_error(a + np.array([0, 1]), a) == 0.25
    assert gradcheck.max_error((a, a + np.array([0.5, 0])), (a, a)) == 0.125
    assert gradcheck.max_error(np.zeros(2), np.zeros(2)) == 0
    assert gradcheck.max_error(np.full(2, 1e-300), np.zeros(2)) == np.inf
    assert np.isnan(gradcheck.max_error((a * np.nan, a + 1), (a, a)))
    assert np.isnan(gradcheck.max_error((a + 1, a * np.nan), (a, a)))
    assert np.isnan(gradcheck.max_error(a * np.nan, np.zeros(2)))
    assert gradcheck.max_error(np.zeros((0, 2)), np.zeros((0, 2))) == 0
    with pytest.raises(ValueError, match=r"^value has shape \(2,\); expected \(1, 2\)$"):
        gradcheck.max_error(a, a[None])
    with pytest.raises(ValueError, match=r"^zip\(\) argument 2 is longer than argument 1$"):
        gradcheck.max_error(a, (a, a))


@pytest.mark.parametrize("name", ["numpy", "cython"])
def test_complex_step_runs_in_numpy_and_central_difference_in_the_context(name):
    seen = []

    def spy(x):
        seen.append(kr.get_backend())
        return 2 * x

    with backend_module._using(name):  # built or not: the spy calls no kernel
        gradcheck.complex_step(spy, (np.ones(1),), 0, np.ones(1))
        gradcheck.central_difference(spy, (np.ones(1),), 0, np.ones(1))
    assert seen == ["numpy", name, name]


def test_upstream_of_ones_would_hide_a_missing_term():
    """Why dy is random: with ones the gradient of BN vanishes, and so does that of BN without its projection."""
    x = rng.normal(7, 3, (6, 2))
    ones = np.ones_like(x)
    dx, *_ = kr.batch_norm_backward(ones, kr.batch_norm_forward(x, None, None)[-1])
    without_projection = ones - ones.mean(axis=0)
    assert np.abs(dx).max() < 1e-15 and not without_projection.any()


class TinyNet:
    """Two linear maps around BN: with state, a bias whose gradient is exactly zero, and one mistake if asked for."""

    def __init__(self, mistake=None):
        draw = np.random.default_rng(9)
        shapes = {"in.weight": (5, 4), "in.bias": (4,), "bn.gamma": (4,), "out.weight": (4, 3)}
        self.params = {path: draw.normal(0.5, 1, shape) for path, shape in shapes.items()}
        self.grads, self.forwards, self.mistake = {}, 0, mistake

    def astype(self, dtype):
        self.params = {path: value.astype(dtype) for path, value in self.params.items()}
        return self

    def forward(self, x, training=False):
        self.forwards += training
        p = self.params
        h, _, cache = kr.batch_norm_forward(x @ p["in.weight"] + p["in.bias"], p["bn.gamma"], None)
        self.kept = x, h, cache
        return h @ p["out.weight"] * self.forwards

    def backward(self, dlogits):
        (x, h, cache), p = self.kept, self.params
        dlogits = dlogits * self.forwards
        dz, dgamma, _ = kr.batch_norm_backward(dlogits @ p["out.weight"].T, cache)
        self.grads = {"in.weight": x.T @ dz, "in.bias": dz.sum(axis=0), "bn.gamma": dgamma, "out.weight": h.T @ dlogits}
        dx = dz @ p["in.weight"].T
        if self.mistake:
            scaled = dx if self.mistake == "x" else self.grads[self.mistake]
            scaled *= 1.001
        return dx


NET_X, LABELS = rng.normal(3, 2, (8, 5)), rng.integers(0, 3, 8)


def test_check_network_accepts_a_right_backward_and_leaves_the_net_alone(backend):
    net = TinyNet()
    errors = gradcheck.check_network(net, NET_X, LABELS)
    assert list(errors) == ["x", *net.params]
    assert max(errors.values()) <= tolerances.NETWORK
    assert net.forwards == 0 and net.grads == {} and net.params["in.weight"].dtype == np.float64


@pytest.mark.parametrize("path", ["x", "in.weight", "bn.gamma", "out.weight"])
def test_check_network_names_the_wrong_gradient(path):
    errors = gradcheck.check_network(TinyNet(mistake=path), NET_X, LABELS)
    assert [name for name, error in errors.items() if error > tolerances.NETWORK] == [path]
    assert errors[path] == pytest.approx(0.001, rel=0.01)


def test_directions_follow_the_seed():
    first, again, other = (gradcheck.check_network(TinyNet(), NET_X, LABELS, seed=s) for s in (1, 1, 2))
    assert first == again != other
