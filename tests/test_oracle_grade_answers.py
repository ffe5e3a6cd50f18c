"""Holds `oracle.grade` to its promise: a wrong answer gets the sentence that is true of it, a right one passes."""

import re

import grading_answers as answers
import grading_answers_kalman as kalman
import numpy as np
import pytest
from grading_answers import compiled
from grading_sources import SOURCES
from scipy.special import ndtr

import kalnorm_ref as kr
from kalnorm_ref.oracle.grading.tutor import EXERCISES

WRONG = [
    *answers.BN_FORWARD,
    *answers.BN_BACKWARD,
    *answers.BRN_CORRECTIONS,
    *answers.BRN_BACKWARD,
    *kalman.KN_FUSE,
    *kalman.KN_BACKWARD,
    *kalman.RELU_MOMENTS,
    *kalman.LINEAR_MOMENTS,
]


def squeezed(text):
    return re.sub(r"\s", "", text)


def formulas(exercise):
    """The right sides of a solution, without spaces."""
    sides = [line.split(" = ", 1)[1] for line in SOURCES[exercise].splitlines() if " = " in line]
    return [squeezed(side) for side in sides if len(squeezed(side)) > 9]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: f"{w.exercise}: {' '.join(w.edits[0][1].split())[:50]}")
def test_a_wrong_answer_gets_its_sentence(wrong):
    grade = kr.oracle.grade(compiled(wrong.source), wrong.exercise)
    assert not grade.passed
    for words in wrong.says:
        assert words in grade.text
    for words in wrong.not_says:
        assert words not in grade.text
    if wrong.exercise != "linear-moments":
        assert "raised" not in grade.text or "ZeroDivisionError" in grade.text
    assert "not in a way that is known here" not in grade.text
    for formula in formulas(wrong.exercise):
        assert formula not in squeezed(grade.text)


def test_there_are_many_wrong_answers_for_every_exercise():
    counts = {name: sum(w.exercise == name for w in WRONG) for name in EXERCISES}
    assert min(counts.values()) >= 20


@pytest.mark.parametrize("exercise", [name for name in SOURCES if name != "relu-moments"])
def test_a_right_answer_passes_without_a_remark(exercise):
    grade = kr.oracle.grade(compiled(SOURCES[exercise]), exercise)
    assert grade.passed
    assert len(grade.sentences) == 1


def test_the_plain_formula_of_the_relu_passes_with_remarks_on_its_edges():
    grade = kr.oracle.grade(compiled(SOURCES["relu-moments"]), "relu-moments")
    assert grade.passed
    assert "where the variance is 0" in grade.text
    assert "far above 0" in grade.text
    assert "far below 0" not in grade.text
    assert len(kr.oracle.grade(relu_by_tails, "relu-moments").sentences) == 1


def test_a_probability_by_the_error_function_passes_with_a_remark_on_its_tail():
    source = SOURCES["relu-moments"].replace("cdf = ndtr(t)", "cdf = 1 - ndtr(-t)")
    grade = kr.oracle.grade(compiled(source), "relu-moments")
    assert grade.passed
    assert "far below 0" in grade.text


def test_one_vector_only_passes_with_a_remark():
    grade = kr.oracle.grade(linear_by_einsum, "linear-moments")
    assert grade.passed
    assert "axes in front" in grade.text


def test_second_moments_pass_with_a_remark_but_not_in_float32():
    source = SOURCES["kn-fuse"].replace(
        "rest * prior_var + gain * var + rest * gain * delta**2",
        "rest * (prior_var + prior_mean**2) + gain * (var + mean**2) - fused_mean**2",
    )
    kn_fuse = compiled(source)
    grade = kr.oracle.grade(kn_fuse, "kn-fuse")
    assert grade.passed
    assert "difference of two large numbers" in grade.text
    grade = kr.oracle.grade(lambda *given: kn_fuse(*(np.float32(a) for a in given)), "kn-fuse")
    assert not grade.passed
    assert "computed in float32" in grade.text


# ---- other right answers -------------------------------------------------------------------------------------------


def bn_forward_in_loops(x, gamma, beta, eps):
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        mean = sum(x[i, c] for i in range(len(x))) / len(x)
        var = sum((x[i, c] - mean) ** 2 for i in range(len(x))) / len(x)
        for i in range(len(x)):
            y[i, c] = gamma[c] * (x[i, c] - mean) / (var + eps) ** 0.5 + beta[c]
    return y


def bn_forward_folded(x, gamma, beta, eps):
    scale = gamma / np.sqrt(x.var(0) + eps)
    return x * scale + (beta - x.mean(0) * scale)


def bn_forward_in_float32(x, gamma, beta, eps):
    return bn_forward_folded_about(x.astype("f4"), gamma.astype("f4"), beta.astype("f4"), np.float32(eps))


def bn_forward_folded_about(x, gamma, beta, eps):
    centred = x - x.mean(0)
    return [centred / np.sqrt((centred**2).mean(0) + eps) * gamma + beta][0]


def bn_backward_simplified(dy, x, gamma, eps):
    r = 1 / np.sqrt(x.var(0) + eps)
    h = (x - x.mean(0)) * r
    dgamma, dbeta = np.einsum("ic,ic->c", dy, h), dy.sum(0)
    return [gamma * r / len(x) * (len(x) * dy - dbeta - h * dgamma), dgamma, dbeta]


def bn_backward_in_loops(dy, x, gamma, eps):
    (m, channels), dx = x.shape, np.empty(x.shape)
    dgamma, dbeta = np.zeros(channels), np.zeros(channels)
    for c in range(channels):
        mean = x[:, c].sum() / m
        s = np.sqrt(((x[:, c] - mean) ** 2).sum() / m + eps)
        for i in range(m):
            dgamma[c] += dy[i, c] * (x[i, c] - mean) / s
            dbeta[c] += dy[i, c]
        for i in range(m):
            dx[i, c] = gamma[c] / s * (dy[i, c] - dbeta[c] / m - (x[i, c] - mean) / s * dgamma[c] / m)
    return dx, dgamma, dbeta


def bn_backward_in_float32(dy, x, gamma, eps):
    return tuple(bn_backward_simplified(*(a.astype("f4") for a in (dy, x, gamma)), np.float32(eps)))


def bn_backward_through_float32(dy, x, gamma, eps):
    return tuple(a.astype("f8") for a in bn_backward_in_float32(dy, x, gamma, eps))


def bn_backward_by_jacobian(dy, x, gamma, eps):
    m, dx = len(x), []
    r = 1 / np.sqrt(x.var(0) + eps)
    h = (x - x.mean(0)) * r
    for c in range(x.shape[1]):
        jacobian = np.eye(m) - 1 / m - np.outer(h[:, c], h[:, c]) / m
        dx.append(r[c] * gamma[c] * jacobian @ dy[:, c])
    return np.stack(dx, axis=1), (dy * h).sum(0), dy.sum(0)


def kr_bn_backward(dy, x, gamma, eps):
    return kr.batch_norm_backward(dy, kr.batch_norm_forward(x, gamma, np.zeros_like(gamma), eps)[2])


def kr_corrections(mean, var, running_mean, running_std, r_max, d_max, eps):
    return kr.renorm_corrections(kr.Moments(mean, var), running_mean, running_std, r_max, d_max, eps)


def corrections_by_minimum(mean, var, running_mean, running_std, r_max, d_max, eps):
    r = np.minimum(np.maximum(np.sqrt(eps + var) / running_std, 1 / r_max), r_max)
    return [r, np.maximum(np.minimum((mean - running_mean) / running_std, d_max), -d_max)]


def kr_brn_backward(dy, x, gamma, r, d, eps):
    cache = kr.batch_renorm_forward(x, gamma, np.zeros_like(gamma), r, d, eps)[2]
    return kr.batch_renorm_backward(dy, cache)


def kr_fuse(prior_mean, prior_var, mean, var, gain):
    return kr.fuse(kr.Moments(prior_mean, prior_var), kr.Moments(mean, var), gain)


def fuse_by_second_moments(prior_mean, prior_var, mean, var, gain):
    mu = prior_mean + gain * (mean - prior_mean)
    return mu, (1 - gain) * (prior_var + (prior_mean - mu) ** 2) + gain * (var + (mean - mu) ** 2)


def kr_kn_backward(dy, x, gamma, prior_mean, prior_var, gain, eps):
    prior = kr.Moments(prior_mean, prior_var)
    cache = kr.kalman_norm_forward(x, gamma, np.zeros_like(gamma), prior, gain, eps)[2]
    dx, _, _, dprior, _ = kr.kalman_norm_backward(dy, None, cache)
    return dx, *dprior


def kn_backward_in_float32(dy, x, gamma, prior_mean, prior_var, gain, eps):
    given = (np.asarray(a, "f4") for a in (dy, x, gamma, prior_mean, prior_var))
    return tuple(np.asarray(a, "f4") for a in kr_kn_backward(*given, gain, eps))


def relu_by_tails(mean, var):
    first, second = kr.transport.relu(kr.Moments(np.atleast_1d(mean), np.atleast_1d(var)))
    return first.reshape(np.shape(mean)), second.reshape(np.shape(mean))


def relu_in_float32(mean, var):
    return tuple(np.float32(a) for a in compiled(SOURCES["relu-moments"])(np.float32(mean), np.float32(var)))


def relu_with_floats(mean, var):
    both = [relu_one(float(m), float(v)) for m, v in zip(np.ravel(mean), np.ravel(var), strict=True)]
    first, second = np.array(both).T
    return first.reshape(np.shape(mean))[()], second.reshape(np.shape(mean))[()]


def relu_one(m, v):
    t = m / v**0.5
    density = np.exp(-t * t / 2) * (0.5 / np.pi) ** 0.5
    first = m * ndtr(t) + v**0.5 * density
    return first, v * ndtr(t) + m * first - first**2


def linear_by_einsum(mean, var, weight, bias):
    return [np.einsum("i,ij->j", mean, weight) + bias, np.einsum("i,ij,ij->j", var, weight, weight)]


def linear_by_covariance(mean, var, weight, bias):
    return weight.T @ mean + bias, np.diag(weight.T @ np.diag(var) @ weight)


VARIANTS = {
    "bn-forward": (bn_forward_in_loops, bn_forward_folded, bn_forward_in_float32, bn_forward_folded_about),
    "bn-backward": (
        bn_backward_simplified,
        bn_backward_in_loops,
        bn_backward_in_float32,
        bn_backward_through_float32,
        bn_backward_by_jacobian,
        kr_bn_backward,
    ),
    "brn-corrections": (kr_corrections, corrections_by_minimum),
    "brn-backward": (kr_brn_backward,),
    "kn-fuse": (kr_fuse, fuse_by_second_moments),
    "kn-backward": (kr_kn_backward, kn_backward_in_float32),
    "relu-moments": (relu_by_tails, relu_in_float32, relu_with_floats),
    "linear-moments": (linear_by_einsum, linear_by_covariance),
}


@pytest.mark.parametrize(("exercise", "function"), [(name, f) for name, fs in VARIANTS.items() for f in fs])
def test_other_right_answers_pass(exercise, function):
    grade = kr.oracle.grade(function, exercise)
    assert grade.passed, grade.text
    assert ("float32" in grade.text) == ("float32" in function.__name__)


def test_a_variance_by_a_difference_passes_with_a_remark():
    def bn_forward(x, gamma, beta, eps):
        return gamma * (x - x.mean(0)) / np.sqrt((x**2).mean(0) - x.mean(0) ** 2 + eps) + beta

    grade = kr.oracle.grade(bn_forward, "bn-forward")
    assert grade.passed
    assert "difference of two large numbers" in grade.text


def test_the_same_in_float32_does_not_pass():
    def bn_forward(x, gamma, beta, eps):
        x = x.astype("f4")
        return gamma * (x - x.mean(0)) / np.sqrt((x**2).mean(0) - x.mean(0) ** 2 + eps) + beta

    grade = kr.oracle.grade(bn_forward, "bn-forward")
    assert not grade.passed
    assert "a difference of two large numbers, computed in float32" in grade.text


def test_a_prior_that_is_ignored_is_told():
    def kn_backward(dy, x, gamma, prior_mean, prior_var, gain, eps):
        return kr_bn_backward(dy, x, gamma, eps)[0], 0 * prior_mean, 0 * prior_var

    assert "The prior and the gain are ignored" in kr.oracle.grade(kn_backward, "kn-backward").text


def test_an_error_of_the_size_of_float32_does_not_pass_in_float64():
    def linear_moments(mean, var, weight, bias):
        return (mean @ weight + bias) * (1 + 1e-8), var @ weight**2

    grade = kr.oracle.grade(linear_moments, "linear-moments")
    assert not grade.passed
    assert "Nearly: the errors are small" in grade.text
