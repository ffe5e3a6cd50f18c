"""Wrong answers to the exercises: what a student writes instead, words that his grade must have, and must not have."""

from typing import NamedTuple

import numpy as np
from grading_sources import SOURCES
from scipy.special import ndtr


class Wrong(NamedTuple):
    """A right answer with some text replaced."""

    exercise: str
    edits: tuple  # (old, new), each old is there exactly once
    says: tuple  # words in the grade
    not_says: tuple = ()  # words not in it

    @property
    def source(self):
        text = SOURCES[self.exercise]
        for old, new in self.edits:
            assert text.count(old) == 1, (self.exercise, old)
            text = text.replace(old, new)
        return text


def compiled(source):
    """The function that a source defines."""
    names = {"np": np, "ndtr": ndtr}
    exec(source, names)
    return next(f for name, f in names.items() if callable(f) and name not in ("ndtr", "__builtins__"))


def wrong(exercise, old, new, *says, also=(), never=()):
    return Wrong(exercise, ((old, new), *also), says, never)


BN_FORWARD = [
    wrong("bn-forward", *a[:2], *a[2:])
    for a in (
        ("(x - mean) / std", "x / std", "mean is not subtracted from x"),
        ("mean = x.sum(axis=0) / m", "mean = x.sum(axis=0)", "The mean is a sum", "not divided"),
        (".sum(axis=0) / m\n    std", ".sum(axis=0)\n    std", "variance is a sum"),
        (".sum(axis=0) / m\n    std", ".sum(axis=0) / (m - 1)\n    std", "unbiased", "m - 1"),
        ("np.sqrt(var + eps)", "np.sqrt(var) + eps", "eps stands outside the root"),
        ("np.sqrt(var + eps)", "np.sqrt(var)", "eps is missing"),
        ("np.sqrt(var + eps)", "np.sqrt(var) + np.sqrt(eps)", "root of eps is added"),
        ("np.sqrt(var + eps)", "np.sqrt(var / m + eps)", "samples twice"),
        ("np.sqrt(var + eps)", "var + eps", "root is missing"),
        ("((x - mean) ** 2)", "(x**2)", "second moment"),
        ("((x - mean) ** 2)", "abs(x - mean)", "variance is wrong", "absolute"),
        ("gamma * x_hat + beta", "x_hat + beta", "gamma is missing"),
        ("gamma * x_hat + beta", "gamma * x_hat", "beta is missing"),
        ("gamma * x_hat + beta", "gamma * (x_hat + beta)", "beta is added before gamma"),
        ("gamma * x_hat + beta", "gamma * x_hat - beta", "beta has the wrong sign"),
        ("gamma * x_hat + beta", "beta * x_hat + gamma", "swapped"),
        ("gamma * x_hat + beta", "x_hat / gamma + beta", "divided by gamma"),
        ("np.sqrt(var + eps)", "np.sqrt(var + 1e-5)", "argument eps is ignored"),
        ("np.sqrt(var + eps)", "np.sqrt(np.maximum(var, eps))", "least variance"),
        ("(x - mean) / std", "x - mean", "not divided by the deviation"),
        ("(x - mean) / std", "(x - mean) * std", "multiplied by the deviation"),
        ("(x - mean) / std", "(mean - x) / std", "wrong sign"),
        ("m = x.shape[0]", "m = x.shape[1]", "divided by the number of channels"),
        ("x.sum(axis=0) / m", "x.mean()", "all channels together, but the variance"),
    )
]
BN_BACKWARD = (
    [
        wrong("bn-backward", *a[:2], *a[2:], never=("gamma is missing", "dgamma  wrong", "dbeta   wrong"))
        for a in (
            (" + dmean / m", "", "dx lacks the term that comes from the mean"),
            (" + dvar * 2 * (x - mean) / m", "", "dx lacks the term that comes from the variance"),
            ("(g * (x - mean)).sum(axis=0)", "g.sum(axis=0) * (x - mean).mean(axis=0)", "comes out as zero"),
            ("g / std + dmean / m + dvar * 2 * (x - mean) / m", "g / std", "direct term only"),
            (
                "dx = g / std + dmean / m + dvar * 2 * (x - mean) / m",
                "dx = dmean / m + dvar * 2 * (x - mean) / m",
                "the direct term",
                "missing",
            ),
            ("-g.sum(axis=0) / std", "g.sum(axis=0) / std", "comes from the mean", "wrong sign"),
            ("* -0.5", "* 0.5", "comes from the variance", "wrong sign"),
            ("dmean / m", "dmean", "comes from the mean", "is a sum"),
            ("(x - mean) / m\n", "(x - mean)\n", "comes from the variance", "is a sum"),
            ("* -0.5", "* -1.0", "comes from the variance", "twice"),
            ("dvar * 2 *", "dvar *", "comes from the variance", "half", "2 of the square"),
            ("/ std**3", "/ std**2", "comes from the variance", "lacks one division by the deviation"),
            ("/ std**3", "/ std", "comes from the variance", "deviation"),
            ("g = gamma * dy", "g = dy", "dx lacks gamma"),
            ("dvar * 2 * (x - mean) / m", "dvar * 2 * (x - mean) / (m - 1)", "comes from the variance", "m - 1"),
            ("-g.sum(axis=0)", "-dy.sum(axis=0)", "comes from the mean", "lacks gamma"),
            ("(g * (x - mean))", "(dy * (x - mean))", "comes from the variance", "lacks gamma"),
            ("(g * (x - mean))", "(g * x)", "comes from the variance", "not centred"),
            ("dvar * 2 * (x - mean)", "dvar * 2 * x", "comes from the variance", "not subtracted"),
            ("return dx,", "return -dx,", "whole of dx has the wrong sign"),
            ("return dx,", "return dx / m,", "whole of dx is divided by", "m"),
            ("return dx,", "return dx * std,", "not divided by the deviation"),
            ("return dx,", "return dx / std,", "one deviation too many"),
        )
    ]
    + [
        wrong("bn-backward", *a[:2], *a[2:], never=("dx lacks", "dx      wrong"))
        for a in (
            ("(dy * x_hat).sum", "(dy * x_hat).mean", "dgamma is a mean"),
            ("dbeta = dy.sum", "dbeta = dy.mean", "dbeta is a mean"),
            ("(dy * x_hat).sum", "(dy * x).sum", "dgamma takes x itself"),
            ("(dy * x_hat).sum", "(g * x_hat).sum", "dgamma has gamma as a factor"),
            ("dbeta = dy.sum", "dbeta = g.sum", "dbeta has gamma as a factor"),
            (
                "(dy * x_hat).sum",
                "(dy * (x - mean)).sum",
                "dgamma takes x minus its mean",
                "not divided by the deviation",
            ),
            ("return dx, dgamma, dbeta", "return dx, dbeta, dgamma", "swapped"),
            ("return dx, dgamma, dbeta", "return dx, 2 * dgamma, dbeta", "dgamma", "twice"),
            ("return dx, dgamma, dbeta", "return dx, dgamma, -dbeta", "dbeta has the wrong sign"),
        )
    ]
    + [
        wrong("bn-backward", ".mean(axis=0)\n    std", ".sum(axis=0)\n    std", "variance is a sum"),
        wrong("bn-backward", ".mean(axis=0)\n    std", ".sum(axis=0) / (m - 1)\n    std", "unbiased"),
        wrong("bn-backward", "np.sqrt(var + eps)", "np.sqrt(var) + eps", "eps stands outside the root"),
        wrong("bn-backward", "np.sqrt(var + eps)", "np.sqrt(var)", "eps is missing"),
        wrong(
            "bn-backward",
            " + dmean / m",
            "",
            "comes from the mean",
            "dgamma is a mean",
            also=[("(dy * x_hat).sum", "(dy * x_hat).mean")],
        ),
        wrong(
            "bn-backward",
            "g = gamma * dy",
            "g = dy",
            "dx lacks gamma",
            "comes from the variance",
            also=[(" + dvar * 2 * (x - mean) / m", "")],
        ),
        wrong(
            "bn-backward",
            "-g.sum(axis=0) / std",
            "-2 * g.sum(axis=0) / std",
            "comes from the mean",
            "twice",
            "comes from the variance",
            "wrong sign",
            also=[("* -0.5", "* 0.5")],
        ),
        wrong(
            "bn-backward",
            "g / std + dmean / m + dvar * 2 * (x - mean) / m",
            "3 * g / std + 5 * dmean / m + 7 * dvar * 2 * (x - mean) / m",
            "direct term",
            "3 times",
            "5 times",
            "7 times",
        ),
    ]
)
BRN_CORRECTIONS = [
    wrong("brn-corrections", *a[:2], *a[2:])
    for a in (
        ("np.clip(std / running_std, 1 / r_max, r_max)", "std / running_std", "r is not clipped"),
        (
            "np.clip((mean - running_mean) / running_std, -d_max, d_max)",
            "(mean - running_mean) / running_std",
            "d is not clipped",
        ),
        ("1 / r_max, r_max", "0, r_max", "lower limit of r"),
        ("1 / r_max, r_max", "-r_max, r_max", "lower limit of r"),
        ("1 / r_max, r_max", "1, r_max", "lower limit of r is 1"),
        ("1 / r_max, r_max", "1 / r_max, None", "large r pass r_max"),
        ("-d_max, d_max", "0, d_max", "cut off at 0"),
        ("-d_max, d_max", "-d_max, None", "large d pass"),
        ("-d_max, d_max", "None, d_max", "negative d pass"),
        ("std / running_std", "running_std / std", "r is inverted"),
        ("mean - running_mean", "running_mean - mean", "d has the wrong sign"),
        ("np.sqrt(var + eps)", "np.sqrt(var)", "lacks eps"),
        ("np.sqrt(var + eps)", "np.sqrt(var) + eps", "outside the root"),
        ("np.sqrt(var + eps)", "var + eps", "variance of the batch stands in the place of its deviation"),
        ("std / running_std", "std / np.sqrt(running_std)", "root of running_std"),
        ("std / running_std", "np.sqrt(std / running_std)", "a root too many"),
        ("(mean - running_mean) / running_std", "(mean - running_mean) / std", "divided by the batch's deviation"),
        ("(mean - running_mean) / running_std", "mean - running_mean", "d is not divided"),
        (
            "(mean - running_mean) / running_std, -d_max, d_max)",
            "mean - running_mean, -d_max, d_max) / running_std",
            "after the clip",
        ),
        (
            "np.clip(std / running_std, 1 / r_max, r_max)",
            "np.clip(np.log(std / running_std), -np.log(r_max), np.log(r_max))",
            "log space",
        ),
        ("return r, d", "return d, r", "swapped"),
        ("-d_max, d_max", "-r_max, r_max", "with r_max in the place of d_max"),
        (
            "(std / running_std, 1 / r_max, r_max)",
            "(std / running_std, 1 / d_max, d_max)",
            "with d_max in the place of r_max",
        ),
        ("running_std, -d_max, d_max", "(running_std + eps), -d_max, d_max", "eps to the running deviation"),
        ("return r, d", "return r, r * d", "d is multiplied by r"),
        ("1 / r_max, r_max", "2 - r_max, r_max", "as a difference"),
        ("std / running_std", "std / np.sqrt(running_std + eps)", "In r the root of running_std + eps"),
        ("std / running_std", "std / np.sqrt(running_std**2 + eps)", "r adds eps to the running variance"),
        (
            "(mean - running_mean) / running_std",
            "(mean - running_mean) / np.sqrt(var)",
            "divided by the batch's deviation, without eps",
        ),
        ("(mean - running_mean) / running_std", "(mean - running_mean) / std * r", "only where r is not clipped"),
    )
] + [
    wrong(
        "brn-corrections",
        "np.sqrt(var + eps)",
        "np.sqrt(var)",
        "r lacks eps",
        "lower limit of r is missing",
        also=[("1 / r_max, r_max", "0, r_max")],
    ),
    wrong(
        "brn-corrections",
        "np.clip(std / running_std, 1 / r_max, r_max)",
        "running_std / std",
        "r is inverted",
        "r is not clipped",
    ),
    wrong(
        "brn-corrections",
        "(mean - running_mean) / running_std, -d_max, d_max",
        "(running_mean - mean) / running_std, None, d_max",
        "d has the wrong sign",
        "negative d pass",
    ),
    wrong(
        "brn-corrections",
        "std / running_std",
        "std / (running_std + eps)",
        "r adds eps to the running deviation",
        "d adds eps to the running deviation",
        "d is not clipped",
        also=[
            (
                "np.clip((mean - running_mean) / running_std, -d_max, d_max)",
                "(mean - running_mean) / (running_std + eps)",
            )
        ],
    ),
]
BRN_BACKWARD = (
    [
        wrong("brn-backward", *a[:2], *a[2:], never=("dgamma  wrong", "dbeta   wrong"))
        for a in (
            ("dy * gamma * r", "dy * gamma", "dx lacks r"),
            ("dy * gamma * r", "dy * r", "dx lacks gamma"),
            ("dy * gamma * r", "dy * gamma / r", "divided by r"),
            ("dy * gamma * r", "dy * gamma * r**2", "r as a factor twice"),
            (" - g.mean(axis=0)", "", "comes from the mean", "led through d"),
            (" - z * (g * z).mean(axis=0)", "", "comes from the variance", "led through r"),
            ("(g - g.mean(axis=0) - z * (g * z).mean(axis=0))", "g", "through r and d", "direct term only"),
            ("- z * (g * z).mean", "- x_hat * (g * x_hat).mean", "corrected x"),
            ("(g * z).mean", "(g * x_hat).mean", "corrected x"),
            ("- z * (g", "- x_hat * (g", "multiplied by the corrected x"),
            ("(g * z).mean", "(dy * z).mean", "lacks gamma and r"),
            ("- g.mean", "- (r * dy).mean", "lacks gamma:"),
            ("- z *", "+ z *", "comes from the variance", "wrong sign"),
            ("g.mean(axis=0) - z", "g.sum(axis=0) - z", "comes from the mean", "is a sum"),
            ("(g * z).mean", "(g * z).sum", "comes from the variance", "is a sum"),
            ("(g * z).mean(axis=0)) / std", "(g * z).mean(axis=0))", "not divided by the deviation"),
            ("return dx", "return dx + d", "dx contains d"),
        )
    ]
    + [
        wrong("brn-backward", *a[:2], *a[2:], never=("dx lacks", "dx      wrong"))
        for a in (
            ("(dy * x_hat).sum", "(dy * z).sum", "plain z"),
            ("z * r + d", "z * r", "dgamma lacks d"),
            ("z * r + d", "z + d", "dgamma lacks r"),
            ("z * r + d", "z * r - d", "d has the wrong sign"),
            ("z * r + d", "(z + d) * r", "d is multiplied by r"),
            ("dbeta = dy.sum", "dbeta = (r * dy).sum", "dbeta has r as a factor"),
            ("dbeta = dy.sum", "dbeta = dy.mean", "dbeta is a mean"),
            ("(dy * x_hat).sum", "(dy * x_hat * r).sum", "r as a factor too many"),
            ("(dy * x_hat).sum", "(g * x_hat).sum", "dgamma has gamma and r as factors"),
            ("dbeta = dy.sum", "dbeta = g.sum", "dbeta has gamma and r as factors"),
        )
    ]
    + [
        wrong("brn-backward", "x.var(axis=0)", "x.var(axis=0, ddof=1)", "unbiased"),
        wrong("brn-backward", "x.var(axis=0)", "x.std(axis=0)", "deviation stands in the place of the variance"),
        wrong("brn-backward", "np.sqrt(var + eps)", "np.sqrt(var) + eps", "outside the root"),
    ]
)
