"""Limits and identities of the group forms, agreement with PyTorch, accuracy far from zero, and what is refused."""

import inspect
import re

import mpmath
import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, group_norm

EPS = 1e-3
N, L, C, G = 2, 3, 6, 3  # samples, positions, channels, groups
rng = np.random.default_rng(34)


def moments(*shape):
    return kr.Moments(rng.normal(5.0, 2.0, shape), rng.uniform(2.0, 20.0, shape))


def dmoments(*shape):
    return kr.Moments(rng.standard_normal(shape), rng.standard_normal(shape))


X, DY = rng.normal(7.0, 3.0, (N, L, C)), rng.standard_normal((N, L, C))
GAMMA, BETA = (rng.uniform(0.5, 2.0, C) * [1, -1, 1, 1, -1, 1] for _ in range(2))
GAINS, PRIOR, PRIORS = np.array([0.2, 0.65, 0.9]), moments(G), moments(N, G)
DESTIMATE = dmoments(N, G)


def close(value, expected, tolerance=tolerances.IDENTITY):
    assert gradcheck.max_error(value, expected) <= tolerance


def gn(x=X, groups=G, dy=DY, eps=EPS, gamma=GAMMA, beta=BETA):
    """y, moments and the gradients (dx, dgamma, dbeta)."""
    y, observed, cache = kr.group_norm_forward(x, gamma, beta, groups, eps)
    return y, observed, kr.group_norm_backward(dy, cache)


def gkn(prior, gain, destimate=None, x=X, dy=DY):
    y, estimate, cache = kr.group_kalman_norm_forward(x, GAMMA, BETA, prior, gain, G, EPS)
    return y, estimate, kr.group_kalman_norm_backward(dy, destimate, cache)


@pytest.mark.parametrize(
    ("forward", "arguments"),
    [(kr.group_norm_forward, (X, GAMMA, BETA, G)), (kr.group_kalman_norm_forward, (X, GAMMA, BETA, PRIOR, 0.5, G))],
)
def test_eps_is_1e_5_unless_said_otherwise(forward, arguments, backend):
    np.testing.assert_array_equal(forward(*arguments)[0], forward(*arguments, eps=1e-5)[0])
    assert inspect.signature(forward).parameters["eps"].default == 1e-5


@pytest.mark.parametrize(("prior", "gain"), [(PRIORS, 1.0), (None, 0.3)], ids=["gain 1", "no prior"])
def test_gkn_becomes_group_norm(prior, gain, backend):
    y, estimate, (*parts, dprior, dgain) = gkn(prior, gain)
    close((y, estimate, tuple(parts)), gn())
    if prior is None:
        assert dprior is None and dgain is None
    else:
        np.testing.assert_array_equal(dprior.var, np.zeros((N, G)))
        assert np.abs(dprior.mean).max() <= tolerances.IDENTITY and np.abs(dgain) > 1e-3


def test_gain_0_is_normalization_with_the_prior(backend):
    y, estimate, (dx, dgamma, dbeta, dprior, _) = gkn(PRIORS, 0.0, DESTIMATE)
    channels = kr.Moments(*(np.repeat(s, C // G, axis=1) for s in PRIORS))
    expected, cache = kr.standardize(X, channels, GAMMA, BETA, EPS)
    fixed_dx, of_channels, *parameters = kr.standardize_backward(DY, cache)
    close((y, estimate, dx, dgamma, dbeta), (expected, PRIORS, fixed_dx, *parameters))
    of_groups = (d.reshape(N, G, -1).sum(axis=-1) + up for d, up in zip(of_channels, DESTIMATE, strict=True))
    close(dprior, kr.Moments(*of_groups))


def test_one_group_is_layer_norm(backend):
    y, observed, (dx, *_) = gn(groups=1)
    mean, var = X.mean(axis=(1, 2)), X.var(axis=(1, 2))
    rstd = 1 / np.sqrt(var + EPS)[:, None, None]
    x_hat, g = (X - mean[:, None, None]) * rstd, GAMMA * DY
    along = (g * x_hat).mean(axis=(1, 2), keepdims=True)
    close((y, *observed), (GAMMA * x_hat + BETA, mean[:, None], var[:, None]))
    close(dx, rstd * (g - g.mean(axis=(1, 2), keepdims=True) - x_hat * along))


def test_a_group_per_channel_is_batch_norm_of_each_sample(backend):
    y, observed, cache = kr.batch_norm_forward(X, GAMMA, BETA, EPS)
    close(gn(groups=C), (y, observed, kr.batch_norm_backward(DY, cache)))


def test_gkn_with_a_group_per_channel_is_kalman_norm_of_each_sample(backend):
    prior, destimate = moments(N, C), dmoments(N, C)
    y, estimate, cache = kr.kalman_norm_forward(X, GAMMA, BETA, prior, 0.6, EPS)
    expected = y, estimate, kr.kalman_norm_backward(DY, destimate, cache)
    y, estimate, cache = kr.group_kalman_norm_forward(X, GAMMA, BETA, prior, 0.6, C, EPS)
    close((y, estimate, kr.group_kalman_norm_backward(DY, destimate, cache)), expected)


def test_one_value_in_a_row_gives_beta_and_no_gradient(backend):
    y, observed, (dx, dgamma, dbeta) = gn(X[:, :1], C, DY[:, :1])
    np.testing.assert_array_equal(y, np.broadcast_to(BETA, y.shape))
    assert np.abs(dx).max() <= tolerances.IDENTITY * np.abs(GAMMA * DY).max() / np.sqrt(EPS)
    assert not observed.var.any() and not dgamma.any()
    close(dbeta, DY[:, 0].sum(axis=0))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_moments_of_the_channels_collapse_to_those_of_the_rows(groups, backend):
    rows = X.reshape(N, L, groups, -1)
    pooled = kr.Moments(rows.mean(axis=(1, 3)), rows.var(axis=(1, 3)))
    close(kr.collapse(kr.observe(X), groups), pooled)
    close(gn(groups=groups)[1], pooled)


def test_samples_are_independent_and_share_parameters(backend):
    y, estimate, (dx, dgamma, dbeta, dprior, dgain) = gkn(PRIORS, GAINS, DESTIMATE)
    parts = []
    for n in range(N):
        here = slice(n, n + 1)
        pair, up = (kr.Moments(*(s[here] for s in moments)) for moments in (PRIORS, DESTIMATE))
        y_n, estimate_n, part = gkn(pair, GAINS, up, X[here], DY[here])
        close((y[here], *(s[here] for s in estimate)), (y_n, *estimate_n))
        close((dx[here], *(s[here] for s in dprior)), (part[0], *part[3]))
        parts.append(part)
    close((dgamma, dbeta, dgain), tuple(sum(part[i] for part in parts) for i in (1, 2, 4)))


def test_positions_may_come_in_any_order_and_so_may_channels_of_a_group(backend):
    positions, channels = [2, 0, 1], [1, 0, 2, 3, 5, 4]
    order = np.ix_(range(N), positions, channels)
    y, observed, (dx, dgamma, _) = gn()
    shuffled, same, back = gn(X[order], dy=DY[order], gamma=GAMMA[channels], beta=BETA[channels])
    close((shuffled, same, back[0], back[1]), (y[order], observed, dx[order], dgamma[channels]))


@pytest.mark.parametrize("eps", [0.0, 1e-5, 30.0])
def test_gradient_of_a_row_has_no_mean_and_what_eps_leaves_along_x_hat(eps, backend):
    _, (mean, var), (dx, *_) = gn(eps=eps)
    rows = lambda a: a.reshape(N, L, G, -1)  # noqa: E731
    rstd = 1 / np.sqrt(var + eps)
    x_hat = (rows(X) - mean[:, None, :, None]) * rstd[:, None, :, None]
    scale = np.abs(dx).sum()
    assert np.abs(rows(dx).sum(axis=(1, 3))).max() <= tolerances.IDENTITY * scale
    left = rstd * (rows(GAMMA * DY) * x_hat).sum(axis=(1, 3)) * eps / (var + eps)
    assert np.abs((rows(dx) * x_hat).sum(axis=(1, 3)) - left).max() <= tolerances.IDENTITY * scale


# ---- PyTorch -------------------------------------------------------------------------------------------------------


def by_torch(function, x, gamma, beta, dy):
    """y and the gradients to x, gamma and beta."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)
    leaf = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    y = function(torch.nn.functional, *leaf)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), tuple(t.grad.numpy() for t in leaf)


def channels_first(of):
    return lambda functional, x, *rest: of(functional, x.permute(0, 2, 1), *rest).permute(0, 2, 1)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_agrees_with_pytorch(groups, backend):
    peer = channels_first(lambda f, x, gamma, beta: f.group_norm(x, groups, gamma, beta, EPS))
    expected = by_torch(peer, X, GAMMA, BETA, DY)
    y, _, back = gn(groups=groups)
    close((y, back), expected)


def test_layer_norm_agrees_with_pytorch(backend):
    x, dy = X[:, 0], DY[:, 0]
    expected = by_torch(lambda f, x, gamma, beta: f.layer_norm(x, (C,), gamma, beta, EPS), x, GAMMA, BETA, dy)
    layer = kr.LayerNorm(C, EPS)
    layer.params["gamma"][...], layer.params["beta"][...] = GAMMA, BETA
    y, dx = layer.forward(x), layer.backward(dy)
    close((y, (dx, layer.grads["gamma"], layer.grads["beta"])), expected)


def test_instance_norm_agrees_with_pytorch(backend):
    peer = channels_first(lambda f, x, gamma, beta: f.instance_norm(x, None, None, gamma, beta, eps=EPS))
    expected = by_torch(peer, X, GAMMA, BETA, DY)
    y, _, back = gn(groups=C)
    close((y, back), expected)


# ---- accuracy and bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "offset"),
    [(np.float64, 0), (np.float64, 1e6), (np.float64, 1e9), (np.float32, 0), (np.float32, 300), (np.float32, 1000)],
)
def test_keeps_the_error_law_at_any_offset(dtype, offset, backend):
    """y and dx against 50 digits, element by element, within budgets that grow with kappa = rms(x) / s."""
    shape, groups, eps = (2, 40, 6), 2, 1e-5
    x, dy = (rng.normal(mean, 1, shape).astype(dtype) for mean in (offset, 0))
    gamma, beta = GAMMA.astype(dtype), BETA.astype(dtype)
    y, _, (dx, *_) = gn(x, groups, dy, eps, gamma, beta)
    rows = lambda a: group_norm.by_group(np.broadcast_to(a, shape), groups)  # noqa: E731
    scale, shift = np.abs(rows(gamma)).astype(float), np.abs(rows(beta)).astype(float)
    with mpmath.workdps(50):
        exact_x, exact_dy, gammas, betas = (
            np.vectorize(lambda v: mpmath.mpf(float(v)), otypes=[object])(rows(a)) for a in (x, dy, gamma, beta)
        )
        mean = exact_x.mean(axis=1, keepdims=True)
        var = ((exact_x - mean) ** 2).mean(axis=1, keepdims=True)
        root = np.vectorize(lambda v: mpmath.sqrt(v + mpmath.mpf(eps)), otypes=[object])(var)
        x_hat, g = (exact_x - mean) / root, gammas * exact_dy
        along = (g * x_hat).mean(axis=1, keepdims=True)
        exact_dx = (g - g.mean(axis=1, keepdims=True) - x_hat * along) / root
        y_error = np.abs(rows(y) - (gammas * x_hat + betas)).astype(float)
        dx_error = np.abs(rows(dx) - exact_dx).astype(float)
        s, hat, g = root.astype(float), np.abs(x_hat).astype(float), np.abs(g).astype(float)
    cu = tolerances.ERROR_LAW_C * np.finfo(dtype).eps / 2
    average = lambda a: a.mean(axis=1, keepdims=True)  # noqa: E731
    kappa = np.sqrt(average(rows(x).astype(float) ** 2)) / s
    e, p = cu * (kappa + hat), average(g * hat)
    y_budget = scale * e + cu * (scale * hat + shift)
    dx_budget = (cu * (g + average(g) + hat * p) + e * p + hat * (average(g * e) + cu * p)) / s
    assert (y_error / (y_budget + np.spacing(np.abs(rows(y))) / 2)).max() <= 1
    assert (dx_error / (dx_budget + np.spacing(np.abs(rows(dx))) / 2)).max() <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_reaches_its_row_alone(bad, backend):
    x = X.copy()
    x[1, 2, 3] = bad  # sample 1, group 1
    y, observed, (dx, dgamma, dbeta) = gn(x)
    for result in (y, dx):
        hit = ~np.isfinite(result.reshape(N, L, G, -1))
        assert hit[1, :, 1].all() and hit.sum() == L * C // G
    assert (~np.isfinite(observed.mean)).nonzero() == (1, 1) and np.isfinite(dbeta).all()
    np.testing.assert_array_equal(~np.isfinite(dgamma), [False, False, True, True, False, False])


def test_no_sample(backend):
    none = kr.Moments(np.zeros((0, G)), np.ones((0, G)))
    y, estimate, cache = kr.group_kalman_norm_forward(X[:0], GAMMA, BETA, none, 0.5, G)
    dx, dgamma, _, dprior, dgain = kr.group_kalman_norm_backward(DY[:0], None, cache)
    assert y.shape == dx.shape == (0, L, C) and estimate.mean.shape == dprior.mean.shape == (0, G)
    assert not dgamma.any() and dgain == 0


BAD = [
    ("gn", (X, GAMMA, BETA, 4), "groups is 4; expected a divisor of the number of channels, 6"),
    ("gn", (X, GAMMA, BETA, 7), "groups is 7; expected a divisor of the number of channels, 6"),
    ("gn", (X, GAMMA, BETA, 0), "groups is 0; expected at least 1"),
    ("gn", (X[0], GAMMA, BETA, 3), "x has shape (3, 6); expected (N, L, C): samples, positions, channels last"),
    ("gn", (X[:, :0], None, None, 3), "x has shape (2, 0, 6), no position (L = 0); expected (N, L, C) with L >= 1"),
    ("gn", (X[..., :0], None, None, 1), "groups is 1; expected a divisor of the number of channels, 0"),
    ("gn", (X, GAMMA[:3], BETA, 3), "gamma has shape (3,); expected (6,), one value per channel, or None"),
    ("gn", (X, GAMMA, BETA, 3, -1), "eps is -1; expected at least 0"),
    ("gkn", (X, GAMMA, BETA, PRIOR, 0.5, 4), "groups is 4; expected a divisor of the number of channels, 6"),
    ("gkn", (X, GAMMA, BETA, moments(C), 0.5, G), "prior.mean has shape (6,); expected (2, 3) or (3,)"),
    ("gkn", (X, GAMMA, BETA, PRIOR, GAMMA, G), "gain has shape (6,); expected a scalar or (3,), one value per group"),
    ("gkn", (X, GAMMA, BETA, PRIOR, 1.5, G), "gain has the value 1.5; expected values in [0, 1]"),
    (
        "gkn",
        (X, GAMMA, BETA, PRIOR._replace(var=-np.ones(G)), 0.5, G),
        "prior.var has the value -1; expected a variance, >= 0",
    ),
    ("collapse", (PRIOR, 2), "groups is 2; expected a divisor of the number of channels, 3"),
    (
        "collapse_backward",
        (PRIORS, PRIORS, 1),
        "dmoments.mean has shape (2, 3); expected (2, 1), the shape of the groups' moments",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_bad_arguments_are_named(name, arguments, message, backend):
    name = {"gn": "group_norm_forward", "gkn": "group_kalman_norm_forward"}.get(name, name)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        getattr(kr, name)(*arguments)


@pytest.mark.parametrize("groups", [2.0, "2", None, True])
def test_groups_that_are_no_integer(groups):
    with pytest.raises(TypeError, match=rf"^groups is {groups!r}; expected an integer$"):
        kr.group_norm_forward(X, GAMMA, BETA, groups)


def test_wrong_upstream_and_wrong_cache_are_named(backend):
    *_, cache = kr.group_norm_forward(X, GAMMA, BETA, G)
    *_, of_gkn = kr.group_kalman_norm_forward(X, GAMMA, BETA, PRIOR, 0.5, G)
    with pytest.raises(ValueError, match=r"^dy has shape \(3, 6\); expected \(2, 3, 6\), the shape of x$"):
        kr.group_norm_backward(DY[0], cache)
    message = r"^destimate\.mean has shape \(3,\); expected \(2, 3\), the shape of the estimate$"
    with pytest.raises(ValueError, match=message):
        kr.group_kalman_norm_backward(DY, PRIOR, of_gkn)
    message = "^cache is GroupKalmanNormCache; expected the GroupNormCache that group_norm_forward returned$"
    with pytest.raises(TypeError, match=message):
        kr.group_norm_backward(DY, of_gkn)
