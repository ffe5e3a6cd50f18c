"""The one table from the names in the code to the symbols on the page of equations, and what each symbol stands for."""

# In every function. A pair is what (mean, var) of a name mean. docs/equations.md opens with the same table.
NAMES = {
    "x": "x",
    "y": "y",
    "mean": "mu",
    "var": "v",
    "rstd": "r",
    "x_hat": "x_hat",
    "gamma": "gamma",
    "beta": "beta",
    "observed": ("xbar", "S"),
    "prior": ("a", "b"),
    "estimate": ("mu", "v"),
    "gain": "q",
    "transition": "A",
    "noise": "rho",
    "running_mean": "M",
    "running_var": "V",
    "running_std": "Sg",
    "corr_r": "r",
    "corr_d": "d",
    "m": "m",
    "delta": "delta",
    "g": "g",
    # what the table of the page leaves out
    "moments": ("mu", "v"),
    "standardized": ("mu", "v"),
    "cov": "Sigma",
    "noise_cov": "R",
    "prior_cov": "B",
    "output": ("mean", "var"),
    "weight": "W",
    "draws": "n",
    "m_hat": "m",
}

_RENORM = {"rstd": "1/s"}
_BATCH = {"moments": ("xbar", "S"), "mean": "xbar", "var": "S", "s": "S"}
_FUSED = {"s": "S", "destimate": ("G_mu", "G_v")}
_RECTIFIED = {"estimate": ("m", "v"), "return mean": "M", "return var": "V", "mean": "M", "var": "V"}
_RECTIFIED |= {"cdf": "Phi", "complement": "Q", "doutput": ("dM", "dV"), "return destimate": ("dm", "dv")}
_CHANNELS = {"return mean": "mean", "return var": "var", "doutput": ("dmean", "dvar"), "dmean": "dmean", "dvar": "dvar"}
_FILTER = {"s": "S", "p": "P", "prior": ("a", "P"), "estimate": ("mu", "P+"), "gain": "K", "noise": "N", "ds": "dS"}
_FILTER |= {"rest": "1 - K", "total": "P + N", "dp": "dP", "dprior": ("da", "dP"), "dnoise": "dN"}
_FILTER |= {"above_mu": "G_mu", "above_p": "G_P", "destimate": ("G_mu", "G_P")}
_PUSHED = {"return mean": "tm", "return var": "tv", "doutput": ("dtm", "dtv"), "s": "S", "g": "gamma"}
_PUSHED |= {"dg": "dgamma", "db": "dbeta", "ds": "dS"}
_PREVIOUS = {"estimate": ("mu'", "v'"), "mean": "mu'", "var": "v'"}

# In one function, or in one module (by its last name); these come first. "return t" is t among the results only.
LOCAL = {
    "observe": _BATCH,
    "observe_backward": _BATCH | {"dmoments": ("dxbar", "dS")},
    "fuse": {"s": "S"},
    "fuse_backward": {"s": "S"},
    "predict": _PREVIOUS | {"return mean": "a", "return var": "b"},
    "predict_backward": _PREVIOUS,
    "kalman_norm_backward": _FUSED,
    "kalman_norm_backward_staged": _FUSED,
    "batch_renorm": _RENORM,
    "full_covariance": {"s": "S", "u": "U", "w": "W", "b": "B", "db": "dB", "ds": "dS"},
    "full_covariance.predict": {"mean": "mu'", "cov": "Sigma'", "var": "diag B", "return mean": "a", "return cov": "B"},
    "full_covariance.predict_backward": {"mean": "mu'", "cov": "Sigma'", "dmean": "da", "dcov": "dB"}
    | {"return dmean_in": "dmu'", "return dcov_in": "dSigma'", "dcov_in": "dSigma'"},
    "full_covariance.kalman_norm_backward": {"dmean": "G_mu", "dcov": "G_Sigma"},
    "full_covariance.kalman_norm_backward_staged": {"dmean": "G_mu", "dcov": "G_Sigma"},
    "kalman_filter": _FILTER,
    "filter_gain": {"var": "P"},
    "group_kalman_norm": {"destimate": ("G_mu", "G_v")},
    "_rectified": {"x": "|t|"},
    "relu_backward": {"dmean": "dm", "dvar": "dv"},
    "relu_from_slopes": {"dmean": "dm", "dvar": "dv"},
    "leaky_relu": {"return mean": "mean", "return var": "var"},
    "leaky_relu_backward": {"doutput": ("dmean", "dvar"), "dmean": "dmean", "dvar": "dvar", "dcov": "dCov"},
    "activation": _RECTIFIED,
    "linear": _CHANNELS,
    "mixture": _CHANNELS
    | {"estimate": ("mu_i", "v_i"), "mean": "mean", "var": "var", "whole": "mean"}
    | {"dmean": "dmean / k", "dmu": "dmu_i", "dv": "dv_i", "doutput": ("dmean", "dvar")},
    "pooling": _CHANNELS,
    "push": _PUSHED,
    "collapse": {"mean": "mu_c", "var": "v_c", "centre": "mean_g"},
    "full_covariance._observe": {"mean": "xbar"},
    "sampled": {"std": "v^(1/2)", "doutput": ("dM", "dV"), "return mean": "M", "return var": "V"},
}

MEANINGS = {
    "x": "input: samples down, channels across",
    "y": "output",
    "mu": "mean that x is standardized with",
    "v": "variance that x is standardized with, without eps",
    "xbar": "mean of the batch",
    "S": "variance of the batch, biased",
    "x_hat": "x, standardized",
    "gamma": "scale of the output",
    "beta": "shift of the output",
    "eps": "small number beside the variance, inside the root",
    "a": "mean that the previous normalizer leads one to expect",
    "b": "variance that the previous normalizer leads one to expect",
    "q": "Kalman gain: weight of the batch",
    "p": "weight of the prior",
    "delta": "disagreement of batch and prior",
    "m": "number of samples",
    "A": "transition from the previous estimate to this prior",
    "rho": "noise of the transition, a variance",
    "mu'": "mean that the previous normalizer estimated",
    "v'": "variance that the previous normalizer estimated",
    "G_mu": "gradient to mu that the next normalizer sends back",
    "G_v": "gradient to v that the next normalizer sends back",
    "M": "running mean",
    "Sg": "running standard deviation",
    "g": "gradient of the loss with respect to x_hat",
    "z": "x, standardized with the batch alone",
    "Sigma": "covariance, of which the diagonal standardizes",
    "B": "covariance that the previous normalizer leads one to expect",
    "R": "covariance of the noise",
    "K": "gain of the Kalman filter",
    "P": "error variance of the prior mean",
    "P+": "error variance after the update",
    "Phi": "distribution function of N(0, 1) at t",
    "phi": "density of N(0, 1) at t",
}


def symbol(name, scopes=(), returned=False):
    """Symbol of the code name `name` ("gain", "prior.mean", "dgain"), looked for in `scopes` first, then everywhere."""
    found = _find(name, scopes, returned)
    if isinstance(found, str):
        return found
    head, _, field = name.rpartition(".")
    if not head and name.endswith(("_mean", "_var")):
        head, _, field = name.rpartition("_")
    pair = _find(head, scopes, returned)
    return pair[field == "var"] if isinstance(pair, tuple) and field in ("mean", "var") else name


def meaning(symbol):
    """What a symbol stands for, in a few words; "" where the table does not say."""
    if symbol not in MEANINGS and symbol.startswith("d") and len(symbol) > 1:
        return f"gradient of the loss with respect to {symbol[1:]}"
    return MEANINGS.get(symbol, "")


def _find(name, scopes, returned):
    for table in (*(LOCAL.get(scope, {}) for scope in scopes), NAMES):
        if returned and f"return {name}" in table:
            return table[f"return {name}"]
        if name in table:
            return table[name]
    if name.startswith("d") and len(name) > 1:  # the gradient of the loss to t is called dt
        found = _find(name[1:], scopes, False)
        return tuple(f"d{part}" for part in found) if isinstance(found, tuple) else found and f"d{found}"
    return None
