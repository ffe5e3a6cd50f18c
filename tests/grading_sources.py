"""Right answers to the exercises as students write them, to be spoilt by the tests of the grades.

Each line can be replaced by itself; grading_answers.py lists what students do to them.
"""

SOURCES = {
    "bn-forward": """
def bn_forward(x, gamma, beta, eps):
    m = x.shape[0]
    mean = x.sum(axis=0) / m
    var = ((x - mean) ** 2).sum(axis=0) / m
    std = np.sqrt(var + eps)
    x_hat = (x - mean) / std
    y = gamma * x_hat + beta
    return y
""",
    "bn-backward": """
def bn_backward(dy, x, gamma, eps):
    m = len(x)
    mean = x.mean(axis=0)
    var = ((x - mean) ** 2).mean(axis=0)
    std = np.sqrt(var + eps)
    x_hat = (x - mean) / std
    g = gamma * dy
    dgamma = (dy * x_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    dvar = (g * (x - mean)).sum(axis=0) * -0.5 / std**3
    dmean = -g.sum(axis=0) / std
    dx = g / std + dmean / m + dvar * 2 * (x - mean) / m
    return dx, dgamma, dbeta
""",
    "brn-corrections": """
def brn_corrections(mean, var, running_mean, running_std, r_max, d_max, eps):
    std = np.sqrt(var + eps)
    r = np.clip(std / running_std, 1 / r_max, r_max)
    d = np.clip((mean - running_mean) / running_std, -d_max, d_max)
    return r, d
""",
    "brn-backward": """
def brn_backward(dy, x, gamma, r, d, eps):
    mean = x.mean(axis=0)
    var = x.var(axis=0)
    std = np.sqrt(var + eps)
    z = (x - mean) / std
    x_hat = z * r + d
    g = dy * gamma * r
    dgamma = (dy * x_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    dx = (g - g.mean(axis=0) - z * (g * z).mean(axis=0)) / std
    return dx, dgamma, dbeta
""",
    "kn-fuse": """
def kn_fuse(prior_mean, prior_var, mean, var, gain):
    rest = 1 - gain
    delta = mean - prior_mean
    fused_mean = rest * prior_mean + gain * mean
    fused_var = rest * prior_var + gain * var + rest * gain * delta**2
    return fused_mean, fused_var
""",
    "kn-backward": """
def kn_backward(dy, x, gamma, prior_mean, prior_var, gain, eps):
    m, rest = len(x), 1 - gain
    mean, var = x.mean(axis=0), x.var(axis=0)
    delta = mean - prior_mean
    mu = rest * prior_mean + gain * mean
    v = rest * prior_var + gain * var + rest * gain * delta**2
    std = np.sqrt(v + eps)
    x_hat = (x - mu) / std
    g = dy * gamma
    dmu = -g.sum(axis=0) / std
    dv = -0.5 * (g * x_hat).sum(axis=0) / std**2
    dmean = gain * dmu + 2 * rest * gain * dv * delta
    dvar = gain * dv
    dx = g / std + dmean / m + 2 * dvar * (x - mean) / m
    dprior_mean = rest * dmu - 2 * rest * gain * dv * delta
    dprior_var = rest * dv
    return dx, dprior_mean, dprior_var
""",
    "relu-moments": """
def relu_moments(mean, var):
    s = np.sqrt(var)
    t = mean / s
    cdf = ndtr(t)
    pdf = np.exp(-t**2 / 2) / np.sqrt(2 * np.pi)
    rectified_mean = mean * cdf + s * pdf
    second = (mean**2 + var) * cdf + mean * s * pdf
    rectified_var = second - rectified_mean**2
    return rectified_mean, rectified_var
""",
    "linear-moments": """
def linear_moments(mean, var, weight, bias):
    output_mean = mean @ weight + bias
    output_var = var @ weight**2
    return output_mean, output_var
""",
}
