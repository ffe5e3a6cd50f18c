"""The exercise linear-moments: independent inputs through x @ weight + bias."""

import itertools

import numpy as np

from .. import steps as plans
from ..shared_steps import steps
from .exercise import DataSet, Edge, Exercise, Output, Term, mistake, numbers, start

NORMAL, UNIFORM = numbers("linear-moments")


def output_mean(mean, weight, bias):
    return mean @ weight + bias


def output_var(var, weight):
    return var @ weight**2


def _linear(name, inputs, outputs, bias=1.0, mean=1.5, correlated=0.0):
    weight = NORMAL(inputs, outputs, mean=correlated)
    arguments = {"mean": NORMAL(inputs, mean=mean), "var": UNIFORM(0.5, 3.0, inputs), "weight": weight}
    return DataSet(name, arguments | {"bias": bias * NORMAL(outputs, mean=1.0)})


SETS = (
    _linear("5 inputs, 4 outputs", 5, 4),
    _linear("3 inputs, 6 outputs, inputs of mean 0", 3, 6, mean=0.0),
    _linear("a square weight, 4 inputs and 4 outputs", 4, 4),
    _linear("bias 0", 6, 5, bias=0.0),
    _linear("one input, one output", 1, 1),
)


def _transposed(a, weight):
    """What a transposed weight gives, which only a square one can."""
    return a @ weight.T if weight.shape[0] == weight.shape[1] else np.full(weight.shape[1], np.nan)


MISTAKES = (
    mistake(
        "weight-not-squared",
        "In output_var weight is not squared: a variance takes the square of every factor.",
        output_var=lambda var, weight: var @ weight,
    ),
    mistake(
        "weight-absolute",
        "In output_var the absolute value of weight stands where its square belongs.",
        output_var=lambda var, weight: var @ np.abs(weight),
    ),
    mistake(
        "deviations-added",
        "In output_var deviations are added, and the sum is squared. Variances of independent "
        "inputs add, deviations do not.",
        output_var=lambda var, weight: (np.sqrt(var) @ weight) ** 2,
    ),
    mistake(
        "absolute-deviations-added",
        "In output_var deviations are added, and the sum is squared. Variances of "
        "independent inputs add, deviations do not.",
        output_var=lambda var, weight: (np.sqrt(var) @ np.abs(weight)) ** 2,
    ),
    mistake(
        "sum-squared",
        "In output_var the whole sum is squared; weight alone should be, before the sum.",
        output_var=lambda var, weight: (var @ weight) ** 2,
    ),
    mistake(
        "var-squared",
        "In output_var the variance is squared as if it were a deviation.",
        output_var=lambda var, weight: var**2 @ weight**2,
    ),
    mistake(
        "var-root",
        "In output_var the deviation of the inputs stands where their variance belongs.",
        output_var=lambda var, weight: np.sqrt(var) @ weight**2,
    ),
    mistake(
        "deviation-returned",
        "output_var is a deviation: its root was taken.",
        output_var=lambda var, weight: np.sqrt(var @ weight**2),
    ),
    mistake(
        "bias-in-var",
        "bias is added to the variance. A constant moves the mean alone.",
        output_var=lambda var, weight, bias: var @ weight**2 + bias,
    ),
    mistake(
        "bias-squared-in-var",
        "The square of bias is added to the variance. A constant moves the mean alone.",
        output_var=lambda var, weight, bias: var @ weight**2 + bias**2,
    ),
    mistake(
        "bias-absolute-in-var",
        "The absolute value of bias is added to the variance. A constant moves the mean alone.",
        output_var=lambda var, weight, bias: var @ weight**2 + np.abs(bias),
    ),
    mistake(
        "second-moment",
        "In output_var the second moment of the inputs stands where their variance belongs: their means enter it.",
        output_var=lambda mean, var, weight: (var + mean**2) @ weight**2,
    ),
    mistake(
        "second-moment-of-output",
        "output_var is the second moment of the output: the square of its mean is not subtracted.",
        output_var=lambda var, weight, output_mean: var @ weight**2 + output_mean**2,
    ),
    mistake(
        "mean-in-var",
        "In output_var the mean of the inputs stands where their variance belongs.",
        output_var=lambda mean, weight: mean @ weight**2,
    ),
    mistake(
        "mean-squared-in-var",
        "In output_var the squared mean of the inputs stands where their variance belongs.",
        output_var=lambda mean, weight: mean**2 @ weight**2,
    ),
    mistake(
        "var-of-mean",
        "output_var is divided by the number of inputs. The output is their sum, not their mean.",
        output_var=lambda var, weight: var @ weight**2 / len(var),
    ),
    mistake(
        "var-of-mean-squared",
        "output_var is divided by the squared number of inputs. The output is their sum, not their mean.",
        output_var=lambda var, weight: var @ weight**2 / len(var) ** 2,
    ),
    mistake(
        "var-doubled", "output_var is twice what it should be.", output_var=lambda var, weight: 2 * var @ weight**2
    ),
    mistake(
        "fully-correlated",
        "In output_var every pair of inputs is counted: as if they were one and the same. "
        "Independent inputs have no such cross terms.",
        output_var=lambda var, weight: var.sum() * (weight**2).sum(axis=0),
    ),
    mistake(
        "precisions",
        "In output_var the variance divides weight and should multiply it.",
        output_var=lambda var, weight: (1 / var) @ weight**2,
    ),
    mistake("bias-missing", "output_mean lacks bias.", output_mean=lambda mean, weight: mean @ weight),
    mistake(
        "bias-subtracted",
        "In output_mean bias has the wrong sign.",
        output_mean=lambda mean, weight, bias: mean @ weight - bias,
    ),
    mistake(
        "bias-twice",
        "In output_mean bias is added twice.",
        output_mean=lambda mean, weight, bias: mean @ weight + 2 * bias,
    ),
    mistake(
        "bias-multiplies",
        "In output_mean bias multiplies and should be added.",
        output_mean=lambda mean, weight, bias: mean @ weight * bias,
    ),
    mistake(
        "mean-weight-squared",
        "In output_mean weight is squared, which belongs to the variance alone.",
        output_mean=lambda mean, weight, bias: mean @ weight**2 + bias,
    ),
    mistake(
        "mean-weight-absolute",
        "In output_mean weight lost its sign.",
        output_mean=lambda mean, weight, bias: mean @ np.abs(weight) + bias,
    ),
    mistake(
        "mean-of-inputs",
        "output_mean is divided by the number of inputs. The output is their sum, not their mean.",
        output_mean=lambda mean, weight, bias: mean @ weight / len(mean) + bias,
    ),
    mistake(
        "mean-from-var",
        "In output_mean the variance of the inputs stands where their mean belongs.",
        output_mean=lambda var, weight, bias: var @ weight + bias,
    ),
    mistake(
        "transposed",
        "weight is transposed: its first axis belongs to the inputs.",
        output_mean=lambda mean, weight, bias: _transposed(mean, weight) + bias,
        output_var=lambda var, weight: _transposed(var, weight**2),
    ),
    mistake(
        "swapped",
        "The two results are swapped.",
        output_mean=lambda var, weight: output_var(var, weight),
        output_var=lambda mean, weight, bias: output_mean(mean, weight, bias),
    ),
    mistake(
        "sum-of-covariances",
        "output_var sums a whole row of the outputs' covariance. Its diagonal alone belongs there.",
        output_var=lambda var, weight: (weight.T * var @ weight).sum(axis=0),
    ),
)


def _with_bias(mistakes):
    """Each mistake in one result, and one in its bias besides."""
    for one, (step, (what, text, changed)) in itertools.product(mistakes, BIAS):
        if list(one.steps) == [step] and "bias" not in one.name:
            yield mistake(f"{one.name}-{what}", f"{one.text} {text}", **{step: _after(step, one.steps[step], changed)})


def _after(name, step, changed):
    def run(**values):
        return changed(step(**{needed: values[needed] for needed in plans.parameters(step)}), values["bias"])

    def of_mean(mean, var, weight, bias):
        return run(mean=mean, var=var, weight=weight, bias=bias)

    def of_var(mean, var, weight, bias, output_mean):
        return run(mean=mean, var=var, weight=weight, bias=bias, output_mean=output_mean)

    return of_mean if name == "output_mean" else of_var


CONSTANT = "A constant moves the mean alone."
BIAS = (
    ("output_var", ("bias", f"And bias is added to the variance. {CONSTANT}", lambda a, bias: a + bias)),
    ("output_var", ("bias-squared", f"And the square of bias is added. {CONSTANT}", lambda a, bias: a + bias**2)),
    ("output_mean", ("bias-missing", "And output_mean lacks bias.", lambda a, bias: a - bias)),
    ("output_mean", ("bias-sign", "And bias has the wrong sign.", lambda a, bias: a - 2 * bias)),
)

ROWS = Edge(
    {
        "mean": np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 0.5]]),
        "var": np.array([[1.0, 2.0], [0.5, 4.0], [0.0, 1.0]]),
        "weight": np.array([[2.0], [-1.0]]),
        "bias": np.array([0.5]),
    },
    (np.array([[0.5], [7.5], [0.0]]), np.array([[6.0], [6.0], [1.0]])),
    "One remark: mean and var may have axes in front, (..., C_in), and here one vector each is answered only.",
)

EXERCISE = Exercise(
    "linear-moments",
    (Output("output_mean", "output_mean", "bias"), Output("output_var", "output_var", "bias")),
    SETS,
    start,
    steps(output_mean, output_var),
    (*MISTAKES, *_with_bias(MISTAKES)),
    {
        "output_mean": (
            Term("the weighted mean of the inputs", lambda mean, weight: mean @ weight, 1),
            Term("bias", lambda bias: bias, 1),
        ),
        "output_var": (
            Term("what it should be", output_var, 1),
            Term("bias", lambda bias: bias, 0),
            Term("the square of bias", lambda bias: bias**2, 0),
        ),
    },
    "Draw a million inputs, map them, and take the moments of what comes out.",
    edges=(ROWS,),
)
