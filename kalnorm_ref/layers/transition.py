"""The learned transition of a Kalman normalizer: its prior from the previous estimate, and how A and R are held.

    diagonal covariance   a = A mu' ;  b = (A*A) v' + rho                                                          (B5)
    full covariance       a = A mu' ;  B = A Sigma' A^T + R                                                        (B3)

A is full (C, C'), diagonal (C,) or zero. R is e^w I ("scalar"), diag(e^w) ("diagonal"), or L L^T ("cholesky", with full
covariance only), so that it is a variance whatever training does to w or L.
"""

import numpy as np

from .. import _arguments, full_covariance
from ..moments import Moments, predict, predict_backward

TRANSITIONS = ("full", "diagonal", "zero")
NOISE_FORMS = ("scalar", "diagonal", "cholesky")


class Transition:
    """A and R of one layer; the parameters live in the layer's dict, given to each method.

    `noise` is the initial variance rho, None for A5's, or a layer whose scalar noise this one shares.
    """

    def __init__(self, kind, channels, previous, full, noise, noise_form, dtype):
        self.kind, self.channels, self.previous, self.full = kind, channels, previous, full
        if kind == "diagonal" and channels != previous:
            raise ValueError(
                f"transition is 'diagonal', from {previous} to {channels} channels; expected equal numbers"
            )
        if noise_form == "cholesky" and not full:
            raise ValueError(
                "noise_form is 'cholesky'; expected 'scalar' or 'diagonal', since the covariance is diagonal"
            )
        self.noise_form, self.lender = noise_form, noise if hasattr(noise, "params") else None
        if self.lender is None:
            noise = self._initial_noise() if noise is None else noise
            self.noise = _arguments.number("noise", noise, np.finfo(dtype).tiny, expected="a variance above 0")
        elif noise_form != "scalar" or np.shape(noise.params.get("log_noise", [0])) != ():  # [0]: has no such noise
            raise ValueError("noise is shared; expected noise_form 'scalar' in both layers")

    def _initial_noise(self):
        if self.kind == "zero":
            return 1.0
        starts_as_average = (
            self.kind == "full" and self.channels != self.previous and not self.full and self.previous > 1
        )
        return 1 - 1 / self.previous if starts_as_average else 0.1

    def start(self, dtype):
        """Parameters at the beginning (A5)."""
        params, c = {}, self.channels
        if self.kind == "full":
            alike = c == self.previous
            params["transition"] = np.eye(c) if alike else np.full((c, self.previous), 1 / self.previous)
        elif self.kind == "diagonal":
            params["transition"] = np.ones(c)
        if self.noise_form == "cholesky":
            params["noise_factor"] = np.sqrt(self.noise) * np.eye(c)
        elif self.lender is None:
            params["log_noise"] = np.full((c,) if self.noise_form == "diagonal" else (), np.log(self.noise))
        return {name: value.astype(dtype) for name, value in params.items()}

    def log_noise(self, params):
        """w of the scalar or diagonal noise, this layer's own or the lender's."""
        return params["log_noise"] if self.lender is None else self.lender.params["log_noise"]

    def _noise_cov(self, params):
        if self.noise_form == "cholesky":
            return full_covariance.cholesky_noise(params["noise_factor"])
        if self.noise_form == "diagonal":
            return full_covariance.diagonal_noise(self.log_noise(params))
        return full_covariance.scalar_noise(self.log_noise(params), self.channels)

    def prior(self, params, estimate, groups):
        """Prior for each of `groups` statistics batches, from the previous estimate (None where A is zero)."""
        if self.full:
            noise = self._noise_cov(params)
            if self.kind == "zero":
                zeros = np.zeros((groups, self.channels), noise.dtype)
                return Moments(zeros, zeros[..., None] + noise)
            return Moments(*full_covariance.predict(*estimate, self._matrix(params), noise))
        noise = np.exp(self.log_noise(params))
        if self.kind == "zero":
            zeros = np.zeros((groups, self.channels), noise.dtype)
            return Moments(zeros, zeros + noise)
        return predict(estimate, params["transition"], noise)

    def _matrix(self, params):
        a = params["transition"]
        return np.diag(a) if self.kind == "diagonal" else a

    def backward(self, dprior, params, estimate):
        """Gradient to the estimate (None where A is zero) and the gradients to the parameters, by name."""
        if self.full:
            return self._full_backward(dprior, params, estimate)
        noise, grads = np.exp(self.log_noise(params)), {}
        if self.kind == "zero":
            destimate, dnoise = None, dprior.var.sum(axis=0 if self.noise_form == "diagonal" else None)
        else:
            destimate, grads["transition"], dnoise = predict_backward(dprior, estimate, params["transition"], noise)
        return destimate, grads | {"log_noise": dnoise * noise}

    def _full_backward(self, dprior, params, estimate):
        grads = {}
        if self.kind == "zero":
            destimate, dnoise = None, dprior.var.sum(axis=0)
        else:
            arguments = *dprior, *estimate, self._matrix(params), self._noise_cov(params)
            *destimate, da, dnoise = full_covariance.predict_backward(*arguments)
            destimate = Moments(*destimate)
            grads["transition"] = np.diagonal(da) if self.kind == "diagonal" else da
        if self.noise_form == "cholesky":
            grads["noise_factor"] = full_covariance.cholesky_noise_backward(dnoise, params["noise_factor"])
        elif self.noise_form == "diagonal":
            grads["log_noise"] = full_covariance.diagonal_noise_backward(dnoise, params["log_noise"])
        else:
            grads["log_noise"] = full_covariance.scalar_noise_backward(dnoise, self.log_noise(params), self.channels)
        return destimate, grads
