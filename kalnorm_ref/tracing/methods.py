"""What `kalnorm-ref trace` runs: each method forward, then backward, as a function of plain arrays.

The arguments are named as in an npz file: `prior_mean` and `prior_var` for the two of a pair. Each returns what the
backward returns.
"""

import dataclasses
import inspect

from .. import full_covariance, transport
from ..batch_norm import batch_norm_backward, batch_norm_forward
from ..batch_renorm import batch_renorm_backward, batch_renorm_forward, renorm_corrections
from ..group_kalman_norm import group_kalman_norm_backward, group_kalman_norm_forward
from ..group_norm import group_norm_backward, group_norm_forward
from ..kalman_filter import kalman_filter_norm_backward, kalman_filter_norm_forward
from ..kalman_norm import kalman_norm_backward, kalman_norm_forward
from ..moments import (
    Moments,
    fuse,
    fuse_backward,
    observe,
    observe_backward,
    predict,
    predict_backward,
    standardize,
    standardize_backward,
)
from . import trace


def run_observe(x, dmean, dvar):
    """Mean and variance of a batch"""
    moments = observe(x)
    return observe_backward(Moments(dmean, dvar), x, moments)


def run_fuse(prior_mean, prior_var, observed_mean, observed_var, gain, dmean, dvar):
    """Fusing a prior with an observation"""
    prior, observed = Moments(prior_mean, prior_var), Moments(observed_mean, observed_var)
    fuse(prior, observed, gain)
    return fuse_backward(Moments(dmean, dvar), prior, observed, gain)


def run_predict(estimate_mean, estimate_var, transition, noise, dprior_mean, dprior_var):
    """Predicting a prior from the previous estimate"""
    estimate = Moments(estimate_mean, estimate_var)
    predict(estimate, transition, noise)
    return predict_backward(Moments(dprior_mean, dprior_var), estimate, transition, noise)


def run_standardize(x, mean, var, dy, gamma=None, beta=None, eps=1e-5):
    """Standardizing with given moments"""
    _, cache = standardize(x, Moments(mean, var), gamma, beta, eps)
    return standardize_backward(dy, cache)


def run_bn(x, dy, gamma=None, beta=None, eps=1e-5):
    """Batch normalization"""
    _, _, cache = batch_norm_forward(x, gamma, beta, eps)
    return batch_norm_backward(dy, cache)


def run_brn(x, dy, running_mean, running_std, r_max=3.0, d_max=5.0, gamma=None, beta=None, eps=1e-5):
    """Batch renormalization"""
    moments = observe(x)
    corr_r, corr_d = renorm_corrections(moments, running_mean, running_std, r_max, d_max, eps)
    _, _, cache = batch_renorm_forward(x, gamma, beta, corr_r, corr_d, eps)
    return batch_renorm_backward(dy, cache)


def run_kn(
    x, dy, prior_mean, prior_var, gain,
    gamma=None, beta=None, destimate_mean=None, destimate_var=None, eps=1e-5,
):  # fmt: skip
    """Batch Kalman normalization"""
    _, _, cache = kalman_norm_forward(x, gamma, beta, Moments(prior_mean, prior_var), gain, eps)
    return kalman_norm_backward(dy, _pair("destimate", destimate_mean, destimate_var), cache)


def run_kn_predicted(x, dy, estimate_mean, estimate_var, transition, noise, gain, gamma=None, beta=None, eps=1e-5):
    """Batch Kalman normalization with a predicted prior"""
    previous = Moments(estimate_mean, estimate_var)
    prior = predict(previous, transition, noise)
    _, _, cache = kalman_norm_forward(x, gamma, beta, prior, gain, eps)
    dx, dgamma, dbeta, dprior, dgain = kalman_norm_backward(dy, None, cache)
    return dx, dgamma, dbeta, dgain, *predict_backward(dprior, previous, transition, noise)


def run_gn(x, dy, groups, gamma=None, beta=None, eps=1e-5):
    """Group normalization"""
    _, _, cache = group_norm_forward(x, gamma, beta, groups, eps)
    return group_norm_backward(dy, cache)


def run_gkn(
    x, dy, groups, prior_mean, prior_var, gain,
    gamma=None, beta=None, destimate_mean=None, destimate_var=None, eps=1e-5,
):  # fmt: skip
    """Group Kalman normalization"""
    _, _, cache = group_kalman_norm_forward(x, gamma, beta, Moments(prior_mean, prior_var), gain, groups, eps)
    return group_kalman_norm_backward(dy, _pair("destimate", destimate_mean, destimate_var), cache)


def run_full_kn(x, dy, prior_mean, prior_cov, gain, gamma=None, beta=None, dmean=None, dcov=None, eps=1e-5):
    """Batch Kalman normalization with the full covariance"""
    _, _, _, cache = full_covariance.kalman_norm_forward(x, gamma, beta, prior_mean, prior_cov, gain, eps)
    return full_covariance.kalman_norm_backward(dy, dmean, dcov, cache)


def run_full_predict(mean, cov, transition, noise_cov, dmean, dcov):
    """Predicting a prior with the full covariance"""
    full_covariance.predict(mean, cov, transition, noise_cov)
    return full_covariance.predict_backward(dmean, dcov, mean, cov, transition, noise_cov)


def run_filter(x, dy, prior_mean, prior_var, gamma=None, beta=None, destimate_mean=None, destimate_var=None, eps=1e-5):
    """Normalization by a Kalman filter on the mean"""
    _, _, cache = kalman_filter_norm_forward(x, gamma, beta, Moments(prior_mean, prior_var), eps)
    return kalman_filter_norm_backward(dy, _pair("destimate", destimate_mean, destimate_var), cache)


def run_relu(estimate_mean, estimate_var, doutput_mean, doutput_var):
    """Moments after a ReLU"""
    estimate = Moments(estimate_mean, estimate_var)
    transport.relu(estimate)
    return transport.relu_backward(Moments(doutput_mean, doutput_var), estimate)


def run_leaky_relu(estimate_mean, estimate_var, slope, doutput_mean, doutput_var):
    """Moments after a leaky ReLU"""
    estimate = Moments(estimate_mean, estimate_var)
    transport.leaky_relu(estimate, slope)
    return transport.leaky_relu_backward(Moments(doutput_mean, doutput_var), estimate, slope)


def run_linear(estimate_mean, estimate_var, weight, doutput_mean, doutput_var, bias=None):
    """Moments after a linear map"""
    estimate = Moments(estimate_mean, estimate_var)
    transport.linear(estimate, weight, bias)
    return transport.linear_backward(Moments(doutput_mean, doutput_var), estimate, weight, bias)


def run_conv2d(estimate_mean, estimate_var, weight, height, width, doutput_mean, doutput_var, stride=1, padding=1):
    """Moments after a convolution with zero padding"""
    estimate, size = Moments(estimate_mean, estimate_var), (height, width)
    transport.conv2d(estimate, weight, stride, padding, size)
    return transport.conv2d_backward(Moments(doutput_mean, doutput_var), estimate, weight, stride, padding, size)


def run_max_pool(estimate_mean, estimate_var, size, doutput_mean, doutput_var):
    """Moments after a maximum over positions"""
    estimate = Moments(estimate_mean, estimate_var)
    transport.max_pool(estimate, size)
    return transport.max_pool_backward(Moments(doutput_mean, doutput_var), estimate, size)


def run_avg_pool(estimate_mean, estimate_var, size, doutput_mean, doutput_var, correlation=0.0):
    """Moments after an average over positions"""
    estimate = Moments(estimate_mean, estimate_var)
    transport.avg_pool(estimate, size, correlation)
    return transport.avg_pool_backward(Moments(doutput_mean, doutput_var), estimate, size, correlation)


def run_dropout(estimate_mean, estimate_var, keep, doutput_mean, doutput_var):
    """Moments after dropout"""
    estimate = Moments(estimate_mean, estimate_var)
    transport.dropout(estimate, keep)
    return transport.dropout_backward(Moments(doutput_mean, doutput_var), estimate, keep)


def run_push(
    mode, estimate_mean, estimate_var, observed_mean, observed_var, doutput_mean, doutput_var,
    gamma=None, beta=None, eps=1e-5,
):  # fmt: skip
    """The moments that a normalizer sends on"""
    estimate, observed = Moments(estimate_mean, estimate_var), Moments(observed_mean, observed_var)
    transport.push(mode, estimate, observed, gamma, beta, eps)
    return transport.push_backward(Moments(doutput_mean, doutput_var), mode, estimate, observed, gamma, beta, eps)


def run_sampled(estimate_mean, estimate_var, draws, weight, doutput_mean, doutput_var, stride=1, padding=0):
    """Moments after ReLU and convolution, from one sampled map"""
    estimate = Moments(estimate_mean, estimate_var)
    transport.sampled(estimate, draws, weight, stride, padding)
    return transport.sampled_backward(Moments(doutput_mean, doutput_var), estimate, draws, weight, stride, padding)


METHODS = {
    name.removeprefix("run_").replace("_", "-"): function
    for name, function in list(globals().items())
    if name.startswith("run_")
}


def run(name, arguments, about=""):
    """Trace of a method, forward and backward, with a dict of its arguments; `about` is a line on these."""
    check(name, arguments)
    found = trace(METHODS[name], **arguments)
    return dataclasses.replace(found, title=METHODS[name].__doc__, about=about)


def check(name, arguments):
    """ValueError if `arguments` are not those of a method: the names that are missing, and those that nothing takes."""
    parameters = inspect.signature(METHODS[name]).parameters
    needed = [p.name for p in parameters.values() if p.default is p.empty]
    missing = [p for p in needed if p not in arguments]
    unknown = sorted(set(arguments) - set(parameters))
    options = [p for p in parameters if p not in needed]
    takes = f"{name} takes {', '.join(needed)}" + (f", and if you like {', '.join(options)}" if options else "")
    if missing:
        raise ValueError(f"{', '.join(missing)} missing; {takes}")
    if unknown:
        raise ValueError(f"{', '.join(unknown)} unknown; {takes}")


def _pair(name, mean, var):
    if (mean is None) != (var is None):
        raise ValueError(f"{name}_mean and {name}_var come together; expected both, or neither")
    return None if mean is None else Moments(mean, var)
