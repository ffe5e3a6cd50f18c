"""Holds the closed-form transition to the released code's sampling of it: the same in expectation over the draws."""

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import transport

DRAWS, H, W, C, OUT = 3000, 6, 4, 3, 4
SAME_STRIDE_2 = ((0, 1), (0, 1))  # TensorFlow's, for an even map
GEOMETRY = {
    "stride 1": (3, 1, 1),
    "stride 1, no padding": (3, 1, 0),
    "stride 2, SAME": (3, 2, SAME_STRIDE_2),
    "stride 2, padding 1": (3, 2, 1),
    "1x1": (1, 1, 0),
}


def case(kernel, stride, padding):
    """An estimate with means of both signs, a weight with a mean, and the moments of many synthetic maps."""
    rng = np.random.default_rng([kernel, stride])
    estimate = kr.Moments(rng.normal(0.3, 1.5, C), rng.uniform(0.5, 4, C))
    weight = rng.normal(0.2, 0.5, (kernel, kernel, C, OUT))
    draws = rng.standard_normal((DRAWS, H, W, C))
    maps = kr.Moments(*(np.broadcast_to(s, (DRAWS, C)) for s in estimate))
    return estimate, weight, transport.sampled(maps, draws, weight, stride, padding)


def coverage(weight, stride, padding):
    """cov_oci / P: by how much the mean of a map moves with its input c at position i; in loops, (OUT, C, H, W)."""
    kernel = len(weight)
    (top, bottom), (left, right) = padding if np.ndim(padding) else ((padding, padding),) * 2
    rows, columns = ((n + sum(p) - kernel) // stride + 1 for n, p in ((H, (top, bottom)), (W, (left, right))))
    found = np.zeros((OUT, C, H, W))
    for row in range(rows):
        for column in range(columns):
            for i in range(kernel):
                for j in range(kernel):
                    y, x = row * stride + i - top, column * stride + j - left
                    if 0 <= y < H and 0 <= x < W:
                        found[:, :, y, x] += weight[i, j].T
    return found / (rows * columns)


def z_scores(samples, expected):
    """By how many standard errors the mean of the draws is off."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    return np.abs(samples.mean(axis=0) - expected) / error


@pytest.mark.parametrize("name", GEOMETRY)
def test_closed_form_is_the_expectation_of_sampling(name):
    """Mean, and variance less that of the map's own mean, which one map cannot show:
    sum_c V_c sum_i (cov_oci / P)^2."""
    kernel, stride, padding = GEOMETRY[name]
    estimate, weight, drawn = case(kernel, stride, padding)
    rectified = transport.relu(estimate)
    closed = transport.conv2d(rectified, weight, stride, padding, (H, W))
    unseen = np.einsum("ochw,c->o", coverage(weight, stride, padding) ** 2, rectified.var)
    assert z_scores(drawn.mean, closed.mean).max() <= tolerances.STANDARD_ERRORS
    assert z_scores(drawn.var, closed.var - unseen).max() <= tolerances.STANDARD_ERRORS
    # pooled over all draws nothing is unseen: the variance of the means is the missing part
    pooled = drawn.var.mean(axis=0) + drawn.mean.var(axis=0)
    errors = np.sqrt(drawn.var.var(axis=0) + 2 * drawn.mean.var(axis=0) ** 2) / np.sqrt(DRAWS)
    assert (np.abs(pooled - closed.var) / errors).max() <= tolerances.STANDARD_ERRORS


@pytest.mark.parametrize(
    ("mistake", "part"),
    [
        ("coverage forgotten", "var"),
        ("rectified after the convolution", "mean"),
        ("border ignored", "mean"),
        ("not rectified", "var"),
    ],
)
def test_sampling_tells_wrong_from_right(mistake, part):
    kernel, stride, padding = GEOMETRY["stride 1"]
    estimate, weight, drawn = case(kernel, stride, padding)
    rectified = transport.relu(estimate)
    closed = transport.conv2d(rectified, weight, stride, padding, (H, W))
    unseen = np.einsum("ochw,c->o", coverage(weight, stride, padding) ** 2, rectified.var)
    if mistake == "rectified after the convolution":
        closed = transport.relu(transport.conv2d(estimate, weight, stride, padding, (H, W)))
    if mistake == "border ignored":
        closed = transport.conv2d(rectified, weight, stride, 0, (H, W))
    if mistake == "not rectified":
        closed = transport.conv2d(estimate, weight, stride, padding, (H, W))
    expected = getattr(closed, part) - (unseen if part == "var" and mistake != "coverage forgotten" else 0)
    assert z_scores(getattr(drawn, part), expected).max() > 2 * tolerances.STANDARD_ERRORS


def test_a_linear_layer_agrees_too():
    """Rows in place of positions: n of them show (n - 1) / n of the variance."""
    rng, rows = np.random.default_rng(7), 5
    estimate = kr.Moments(rng.normal(0.3, 1.5, C), rng.uniform(0.5, 4, C))
    weight = rng.normal(0.2, 0.5, (C, OUT))
    draws = rng.standard_normal((DRAWS, rows, 1, C))
    maps = kr.Moments(*(np.broadcast_to(s, (DRAWS, C)) for s in estimate))
    drawn = transport.sampled(maps, draws, weight[None, None], 1, 0)
    closed = transport.linear(transport.relu(estimate), weight)
    assert z_scores(drawn.mean, closed.mean).max() <= tolerances.STANDARD_ERRORS
    assert z_scores(drawn.var, closed.var * (rows - 1) / rows).max() <= tolerances.STANDARD_ERRORS
    assert z_scores(drawn.var, closed.var).max() > 2 * tolerances.STANDARD_ERRORS


def test_priors_of_both_variants_agree_in_expectation():
    """Through layers: kn-analytic with the released push is the mean of kn-released over its draws."""
    rng = np.random.default_rng(8)
    x, conv = rng.normal(2.0, 1.5, (2, 8, 8, C)), kr.Conv2d(C, OUT, 3, padding=1, rng=3, dtype=np.float64)
    normalizers = kr.KalmanNorm(C, variant="analytic", push="released"), kr.KalmanNorm(C, variant="released", seed=2)
    nets = [kr.Sequential(norm, kr.ReLU(), conv) for norm in normalizers]
    closed = nets[0].carry(x, None, training=True)[1].moments
    drawn = np.array([nets[1].carry(x, None, training=True)[1].moments for _ in range(1500)])[:, :, 0]
    assert z_scores(drawn[:, 0], closed.mean[0]).max() <= tolerances.STANDARD_ERRORS
    pooled = drawn[:, 1].mean(axis=0) + drawn[:, 0].var(axis=0)
    error = drawn[:, 1].std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(pooled - closed.var[0]) / error).max() <= tolerances.STANDARD_ERRORS


@pytest.mark.parametrize("where", ["mean", "var", "draws"])
def test_nan_reaches_what_depends_on_it(where, backend):
    rng = np.random.default_rng(3)
    mean, var, draws, weight = (rng.normal(1, 1, s) for s in ((2, 2), (2, 2), (2, 4, 4, 2), (3, 3, 2, 1)))
    arguments = {"mean": mean, "var": var**2, "draws": draws}
    arguments[where][(0,) * arguments[where].ndim] = np.nan
    estimate, draws = kr.Moments(arguments["mean"], arguments["var"]), arguments["draws"]
    moments = transport.sampled(estimate, draws, weight, 1, 1)
    assert np.isnan(moments.mean[:, 0]).tolist() == np.isnan(moments.var[:, 0]).tolist() == [True, False]
    up = kr.Moments(rng.normal(size=(2, 1)), rng.normal(size=(2, 1)))
    destimate, ddraws, dweight = transport.sampled_backward(up, estimate, draws, weight, 1, 1)
    assert np.isnan(destimate.mean[0, 0]) and np.isfinite(destimate.mean[1]).all()
    assert np.isnan(ddraws[0]).any() and np.isfinite(ddraws[1]).all() and np.isnan(dweight).any()
