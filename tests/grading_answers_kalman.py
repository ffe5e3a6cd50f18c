"""The wrong answers of grading_answers.py, for the exercises on Kalman normalization and on moments."""

from grading_answers import wrong

CROSS = "rest * gain * delta**2"
SECOND = "rest * (prior_var + prior_mean**2) + gain * (var + mean**2)"
KN_FUSE = [
    wrong("kn-fuse", *a[:2], *a[2:], never=("fused_mean  wrong",))
    for a in (
        (" + " + CROSS, "", "fused_var lacks", "disagreement"),
        (CROSS, "gain**2 * delta**2", "weighted by the gain squared"),
        (CROSS, "rest * gain**2 * delta**2", "one factor too many"),
        (CROSS, "rest**2 * delta**2", "1 - gain squared"),
        (CROSS, "gain * delta**2", "lacks the factor 1 - gain"),
        (CROSS, "rest * delta**2", "lacks the factor gain"),
        (CROSS, "delta**2", "both its weights"),
        ("+ " + CROSS, "- " + CROSS, "wrong sign"),
        (CROSS, "rest * gain * delta", "not squared"),
        (CROSS, "2 * rest * gain * delta**2", "twice"),
        ("mean - prior_mean", "mean + prior_mean", "sum of the means"),
        (
            "rest * prior_var + gain * var",
            "gain * prior_var + rest * var",
            "In fused_var gain and 1 - gain are swapped",
        ),
        ("rest * prior_var + gain * var", "rest**2 * prior_var + gain**2 * var", "squared"),
        ("rest * prior_var + gain * var + " + CROSS, "rest * prior_var", "Kalman filter"),
        ("rest * prior_var + gain * var + " + CROSS, "rest**2 * prior_var + gain**2 * var", "weighted sum"),
        ("rest * prior_var + gain * var + " + CROSS, "1 / (rest / prior_var + gain / var)", "precisions"),
        (
            "rest * prior_var + gain * var + " + CROSS,
            "(rest * prior_var**0.5 + gain * var**0.5) ** 2",
            "mixes deviations",
        ),
        ("gain * var", "var", "batch's variance", "lacks"),
        (
            "rest * prior_var + gain * var + " + CROSS,
            "rest * (prior_var + (prior_mean - fused_mean)**2) + gain * var",
            "the distance of the batch's mean is missing",
        ),
        (
            "rest * prior_var + gain * var + " + CROSS,
            "rest * prior_var + gain * (var + (mean - fused_mean)**2)",
            "the distance of the prior's mean is missing",
        ),
        ("rest * prior_var + gain * var + " + CROSS, SECOND, "is the second moment"),
        ("rest * prior_var + gain * var + " + CROSS, SECOND + " - fused_mean", "unsquared"),
        ("rest * prior_var + gain * var + " + CROSS, SECOND + " - mean**2", "square of the batch's mean"),
        ("rest * prior_var + gain * var + " + CROSS, SECOND + " - prior_mean**2", "square of the prior's mean"),
        ("rest * prior_var + gain * var + " + CROSS, "(prior_var + var) / 2 + delta**2 / 4", "one half each"),
        ("rest * prior_var + gain * var + " + CROSS, "(prior_var + var) / 2", "plain average of the two variances"),
        ("fused_mean, fused_var\n", "fused_mean, np.sqrt(fused_var)\n", "root was taken"),
    )
] + [
    wrong("kn-fuse", "rest = 1 - gain", "rest, gain = gain, 1 - gain", "gain weighs the prior", "mean and variance"),
    wrong(
        "kn-fuse", "rest * prior_mean + gain", "gain * prior_mean + rest", "In fused_mean gain and 1 - gain are swapped"
    ),
    wrong("kn-fuse", "rest * prior_mean", "prior_mean", "fused_mean", "1 - gain"),
    wrong("kn-fuse", "rest * prior_mean + gain * mean", "mean", "fused_mean is the mean of the batch"),
    wrong("kn-fuse", "rest * prior_mean + gain * mean", "(prior_mean + mean) / 2", "plain average"),
    wrong("kn-fuse", "rest * prior_mean + gain * mean", "prior_mean - gain * delta", "away from the batch"),
    wrong("kn-fuse", "return fused_mean, fused_var", "return fused_var, fused_mean", "swapped"),
    wrong(
        "kn-fuse",
        "rest = 1 - gain",
        "gain = prior_var / (prior_var + var); rest = 1 - gain",
        "gain is ignored",
        also=[("rest * prior_var + gain * var + " + CROSS, "rest * prior_var")],
    ),
    wrong("kn-fuse", "delta = mean - prior_mean", "delta = 0", "fused_var lacks"),
    wrong(
        "kn-fuse",
        "rest * prior_mean + gain * mean",
        "gain * prior_mean + rest * mean",
        "In fused_mean gain and 1 - gain are swapped",
        "fused_var lacks",
        also=[(" + " + CROSS, "")],
        never=("in mean and variance",),
    ),
]
KN_BACKWARD = (
    [
        wrong("kn-backward", *a[:2], *a[2:], never=("dprior_mean  wrong", "dprior_var   wrong"))
        for a in (
            (" + 2 * dvar * (x - mean) / m", "", "dx lacks the path through the variance"),
            (" + dmean / m", "", "dx lacks the path through the mean"),
            ("g / std + dmean / m + 2 * dvar * (x - mean) / m", "g / std", "direct path only"),
            ("dx = g / std + dmean / m", "dx = dmean / m", "dx lacks the direct path"),
            ("dx = g / std", "dx = g", "direct path", "not divided by the deviation"),
            ("2 * dvar * (x - mean)", "dvar * (x - mean)", "half"),
            ("2 * dvar * (x - mean)", "2 * dvar * (x - mu)", "x minus the fused mean"),
            ("2 * dvar * (x - mean)", "2 * dvar * x_hat", "takes the normalized x"),
            ("dmean / m", "dmean", "not divided by the number of samples"),
            ("(x - mean) / m", "(x - mean) / (m - 1)", "m - 1"),
            ("(x - mean) / m", "(x - mean)", "variance of the batch is not divided by the number of samples"),
            ("gain * dmu +", "dmu +", "lacks the factor gain"),
            (
                "dmean = gain * dmu + 2 * rest * gain * dv * delta",
                "dmean = gain * dmu",
                "disagreement",
                "missing in dx",
            ),
            ("dvar = gain * dv", "dvar = dv", "lacks the factor gain"),
            ("dvar = gain * dv", "dvar = rest * dv", "swapped"),
            (
                "dmean / m + 2 * dvar * (x - mean) / m",
                "dmu / m + 2 * dv * (x - mu) / m",
                "batch normalization with the fused statistics",
            ),
        )
    ]
    + [
        wrong("kn-backward", *a[:2], *a[2:], never=("dx           wrong", "dx lacks"))
        for a in (
            ("rest * dmu - 2 * rest * gain * dv * delta", "rest * dmu", "dprior_mean lacks", "disagreement"),
            ("rest * dmu - 2", "rest * dmu + 2", "dprior_mean", "disagreement", "wrong sign"),
            ("rest * dmu - 2", "gain * dmu - 2", "dprior_mean", "swapped"),
            ("rest * dmu - 2", "-gain * dmu - 2", "dprior_mean has only what comes through the disagreement"),
            ("rest * dmu - 2 * rest * gain * dv * delta", "dmu", "whole gradient of the fused mean"),
            ("dprior_var = rest * dv", "dprior_var = gain * dv", "dprior_var", "swapped"),
            ("dprior_var = rest * dv", "dprior_var = dv", "lacks the weight of the prior"),
            ("dprior_var = rest * dv", "dprior_var = 0 * dv", "dprior_var is zero"),
            ("dprior_var = rest * dv", "dprior_var = -rest * dv", "dprior_var", "wrong sign"),
            ("rest * dmu - 2 *", "rest * dmu - 4 *", "disagreement", "twice what"),
        )
    ]
    + [
        wrong(
            "kn-backward",
            "dmean = gain * dmu + 2 * rest * gain * dv * delta",
            "dmean = gain * dmu",
            "missing in dx",
            "In dprior_mean",
            "wrong sign",
            also=[("rest * dmu - 2", "rest * dmu + 2")],
            never=("comes through the fused variance",),
        ),
        wrong("kn-backward", "dmu = -g", "dmu = g", "gradient of the fused mean has the wrong sign"),
        wrong("kn-backward", "dv = -0.5", "dv = -1.0", "twice", "1/2"),
        wrong("kn-backward", "dv = -0.5", "dv = 0.5", "gradient of the fused variance has the wrong sign"),
        wrong("kn-backward", "axis=0) / std**2", "axis=0) / std**3", "once too often"),
        wrong("kn-backward", "dy * gamma", "dy", "gamma is missing"),
        wrong("kn-backward", "dy * gamma", "dy", "mean and variance lack gamma", also=[("dx = g", "dx = gamma * g")]),
        wrong(
            "kn-backward",
            "dmean = gain",
            "dmu -= 2 * dv * (x - mu).mean(axis=0)\n    dmean = gain",
            "comes through the fused variance",
            never=("is missing", "lacks"),
        ),
        wrong(
            "kn-backward",
            "dmean = gain",
            "dmu -= 2 * gain * dv * (x - mu).mean(axis=0)\n    dmean = gain",
            "comes through the fused variance",
        ),
        wrong("kn-backward", " + rest * gain * delta**2", "", "fused variance lacks the disagreement"),
        wrong("kn-backward", "delta = mean - prior_mean", "delta = 0 * mean", "missing throughout"),
        wrong(
            "kn-backward",
            "rest * prior_mean + gain * mean",
            "gain * prior_mean + rest * mean",
            "fused mean and variance gain and 1 - gain are swapped",
            also=[("rest * prior_var + gain * var", "gain * prior_var + rest * var")],
        ),
        wrong(
            "kn-backward",
            "m, rest = len(x), 1 - gain",
            "m, rest, gain = len(x), gain, 1 - gain",
            "forward and backward",
            "swapped",
        ),
        wrong("kn-backward", "x.var(axis=0)", "x.var(axis=0, ddof=1)", "unbiased"),
        wrong("kn-backward", "np.sqrt(v + eps)", "np.sqrt(v) + eps", "outside the root"),
        wrong(
            "kn-backward",
            "gain * dv\n",
            "dv\n",
            "batch normalization",
            also=[
                ("dmean = gain * dmu + 2 * rest * gain * dv * delta", "dmean = dmu"),
                ("(x - mean) / m", "(x - mu) / m"),
                ("rest * dmu - 2 * rest * gain * dv * delta", "rest * dmu"),
            ],
        ),
    ]
)
RELU_MOMENTS = [
    wrong("relu-moments", *a[:2], *a[2:])
    for a in (
        ("second - rectified_mean**2", "second", "is the second moment"),
        ("second - rectified_mean**2", "second - rectified_mean", "unsquared"),
        ("second - rectified_mean**2", "second - mean**2", "before the ReLU"),
        (
            "rectified_mean = mean * cdf + s * pdf",
            "rectified_mean = np.maximum(mean, 0)",
            "rectified_mean is the mean, rectified",
        ),
        ("= mean * cdf + s * pdf", "= mean * cdf", "lacks the term with the density"),
        ("= mean * cdf + s * pdf", "= mean + s * pdf", "lacks the distribution function"),
        ("= mean * cdf + s * pdf", "= s * pdf", "lacks the term with the mean"),
        ("= mean * cdf + s * pdf", "= mean * cdf - s * pdf", "wrong sign"),
        ("= mean * cdf + s * pdf", "= mean * cdf + var * pdf", "multiplied by the variance"),
        ("t = mean / s", "t = mean / var", "divided by the variance"),
        ("t = mean / s", "t = mean", "not standardized"),
        ("t = mean / s", "t = -mean / s", "z below 0"),
        ("s = np.sqrt(var)", "s = var", "taken for a deviation"),
        (" / np.sqrt(2 * np.pi)", "", "lacks its constant"),
        ("/ np.sqrt(2 * np.pi)", "/ (2 * np.pi)", "lacks its root"),
        ("np.exp(-t**2 / 2)", "np.exp(-t**2)", "lacks 1/2"),
        ("/ np.sqrt(2 * np.pi)", "/ np.sqrt(2 * np.pi) / s", "that of z"),
        ("np.sqrt(var)", "np.sqrt(var + 1e-5)", "constant of 1e-05 is added to the variance"),
        ("mean / s\n", "mean / (s + 1e-3)\n", "constant of 0.001 is added to the deviation"),
        ("(mean**2 + var) * cdf", "var * cdf", "lacks the square of the mean"),
        ("(mean**2 + var) * cdf", "mean**2 * cdf", "second moment lacks the variance"),
        (" + mean * s * pdf", "", "second moment lacks the term with the density"),
        ("+ mean * s * pdf", "- mean * s * pdf", "second moment", "wrong sign"),
        ("second - rectified_mean**2", "var * cdf", "probability that z is above 0"),
        ("rectified_mean, rectified_var\n", "rectified_mean, np.sqrt(rectified_var)\n", "deviation"),
        ("rectified_mean, rectified_var\n", "rectified_var, rectified_mean\n", "swapped"),
        ("cdf = ndtr(t)", "cdf = 2 * ndtr(t * np.sqrt(2)) - 1", "error function"),
        ("rectified_mean, rectified_var\n", "2 * rectified_mean, rectified_var\n", "rectified_mean", "twice"),
    )
]
RELU_MOMENTS += [
    wrong(
        "relu-moments",
        "cdf + s * pdf",
        "cdf + pdf",
        "lack a factor, the deviation: it is missing",
        also=[("mean * s * pdf", "mean * pdf")],
    ),
    wrong(
        "relu-moments",
        "t = mean / s",
        "mean, t = 0 * mean, 0 * mean",
        "The mean is taken to be 0",
    ),
]
LINEAR_MOMENTS = (
    [
        wrong("linear-moments", *a[:2], *a[2:], never=("output_mean  wrong",))
        for a in (
            ("var @ weight**2", "var @ weight", "weight is not squared"),
            ("var @ weight**2", "var @ abs(weight)", "absolute value of weight"),
            ("var @ weight**2", "(np.sqrt(var) @ weight) ** 2", "deviations are added"),
            ("var @ weight**2", "np.sqrt(var) @ weight**2", "deviation of the inputs"),
            ("var @ weight**2", "np.sqrt(var @ weight**2)", "is a deviation"),
            ("var @ weight**2", "var @ weight**2 + bias", "bias is added to the variance"),
            ("var @ weight**2", "var @ weight**2 + bias**2", "square of bias"),
            ("var @ weight**2", "(var + mean**2) @ weight**2", "second moment of the inputs"),
            ("var @ weight**2", "var @ weight**2 + output_mean**2", "second moment of the output"),
            ("var @ weight**2", "mean @ weight**2", "the mean of the inputs stands"),
            ("var @ weight**2", "var @ weight**2 / len(var)", "divided by the number of inputs"),
            ("var @ weight**2", "(var @ weight) ** 2", "whole sum is squared"),
            ("var @ weight**2", "var**2 @ weight**2", "variance is squared"),
            ("var @ weight**2", "var @ weight**2 * 3", "3 times"),
            ("var @ weight**2", "var @ weight**2 / len(var) + bias**2", "number of inputs", "square of bias is added"),
            ("var @ weight**2", "(weight.T * var @ weight).sum(axis=0)", "outputs' covariance"),
        )
    ]
    + [
        wrong("linear-moments", *a[:2], *a[2:], never=("output_var   wrong",))
        for a in (
            (" + bias", "", "lacks bias"),
            (" + bias", " - bias", "bias has the wrong sign"),
            ("mean @ weight + bias", "mean @ weight**2 + bias", "output_mean weight is squared"),
            ("mean @ weight + bias", "mean @ weight / len(mean) + bias", "divided by the number of inputs"),
            ("mean @ weight + bias", "mean @ weight + 2 * bias", "twice"),
            ("mean @ weight + bias", "mean @ weight * bias", "bias multiplies"),
            ("mean @ weight + bias", "mean @ weight**2 - bias", "weight is squared", "bias has the wrong sign"),
            ("mean @ weight + bias", "mean @ weight / len(mean)", "number of inputs", "lacks bias"),
        )
    ]
    + [
        wrong("linear-moments", "return output_mean, output_var", "return output_var, output_mean", "swapped"),
        wrong("linear-moments", "weight**2", "weight + bias", "weight is not squared", "And bias is added"),
        wrong(
            "linear-moments",
            "mean @ weight + bias",
            "weight @ mean + bias",
            "transposed",
            "ValueError",
            also=[("var @ weight**2", "weight**2 @ var")],
        ),
    ]
)
