"""Holds `oracle.grade` to its promise on the form of an answer, and the tables behind it to theirs."""

import re

import numpy as np
import pytest
from grading_answers import compiled
from grading_sources import SOURCES

import kalnorm_ref as kr
from kalnorm_ref.oracle.grading.diagnose import near
from kalnorm_ref.oracle.grading.exercise import results, values
from kalnorm_ref.oracle.grading.tolerance import LEVELS, tolerance
from kalnorm_ref.oracle.grading.tutor import EXERCISES

RIGHT = {name: compiled(source) for name, source in SOURCES.items()}


def fuse(prior_mean, prior_var, mean, var, gain):
    return RIGHT["kn-fuse"](prior_mean, prior_var, mean, var, gain)


def graded(function, exercise="kn-fuse"):
    grade = kr.oracle.grade(function, exercise)
    assert not grade.passed
    return grade.text


# ---- the form of an answer -----------------------------------------------------------------------------------------


def test_an_unknown_exercise_is_an_error_that_lists_all():
    names = ", ".join(EXERCISES)
    with pytest.raises(ValueError) as raised:
        kr.oracle.grade(fuse, "bn")
    assert str(raised.value) == f"no exercise is called 'bn'; expected one of {names}"


def test_what_is_no_function_is_an_error():
    with pytest.raises(TypeError, match=r"student_function is int; expected a function$"):
        kr.oracle.grade(3, "bn-forward")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_an_unwritten_function_is_not_written_yet(exercise):
    parameters = ", ".join(EXERCISES[exercise].parameters)
    for body in ("...", "return ...", "raise NotImplementedError", "pass"):
        function = compiled(f"def f({parameters}): {body}")
        assert "Not written yet" in graded(function, exercise)


def test_an_exception_is_reported_with_message_and_line():
    def kn_fuse(prior_mean, prior_var, mean, var, gain):
        return prior_mean, prior_var + undefined_name  # noqa: F821

    text = graded(kn_fuse)
    line = kn_fuse.__code__.co_firstlineno + 1
    assert "raised NameError: name 'undefined_name' is not defined" in text
    assert f"in line {line}: return prior_mean, prior_var + undefined_name" in text


def test_an_exception_below_the_function_is_reported_at_its_own_line():
    def kn_fuse(prior_mean, prior_var, mean, var, gain):
        return np.linalg.inv(prior_mean), var

    assert "LinAlgError" in graded(kn_fuse) and "return np.linalg.inv(prior_mean), var" in graded(kn_fuse)


def test_other_parameters_are_told():
    assert "takes (a, b); it is called with (prior_mean, prior_var, mean, var, gain)" in graded(lambda a, b: a)


def test_parameters_in_another_order_are_told():
    def kn_fuse(mean, var, prior_mean, prior_var, gain):
        return mean, var

    assert "The parameters are in another order: (mean, var, prior_mean, prior_var, gain)" in graded(kn_fuse)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, b: a, "returns one array of shape (6,); expected 2 results: fused_mean, fused_var."),
        (lambda a, b: np.stack([a, b]), "returns one array of shape (2, 6); expected 2 results"),
        (lambda a, b: (a, b, b), "returns 3 results; expected 2 results: fused_mean, fused_var."),
        (lambda a, b: (a,), "returns 1 results; expected 2 results"),
        (lambda a, b: "text", "returns a str; expected 2 results"),
        (lambda a, b: (a, None), "fused_var is None: it is not computed yet."),
        (lambda a, b: (a, b[None]), "fused_var has shape (1, 6); expected (6,), on the data set"),
        (lambda a, b: (a[:3], b), "fused_mean has shape (3,); expected (6,)"),
        (lambda a, b: (a.sum(), b), "fused_mean has shape (); expected (6,)"),
        (lambda a, b: (a.tolist(), b), "fused_mean is a list; expected a NumPy array of shape (6,)"),
        (lambda a, b: (a, b.astype(int)), "fused_var has the type int64: whole numbers"),
        (lambda a, b: (a + 0j, b), "fused_mean has the type complex128"),
        (lambda a, b: (a.astype("f2"), b), "fused_mean has the type float16, which has too few digits"),
        (lambda a, b: (a.astype(object), b), "fused_mean has the type object"),
    ],
)
def test_the_form_of_results(change, words):
    text = graded(lambda prior_mean, prior_var, mean, var, gain: change(*fuse(prior_mean, prior_var, mean, var, gain)))
    assert words in text


def test_shapes_get_a_reason():
    def bn_backward(dy, x, gamma, eps):
        dx, dgamma, dbeta = RIGHT["bn-backward"](dy, x, gamma, eps)
        return dx.T, dgamma, dbeta

    assert "dx has shape (6, 9); expected (9, 6)" in graded(bn_backward, "bn-backward")
    assert "It is transposed." in graded(bn_backward, "bn-backward")

    def unsummed(dy, x, gamma, eps):
        return RIGHT["bn-backward"](dy, x, gamma, eps)[0], dy * x, dy.sum(axis=0)

    assert "A sum over the samples is missing." in graded(unsummed, "bn-backward")

    def other_axis(dy, x, gamma, eps):
        return *RIGHT["bn-backward"](dy, x, gamma, eps)[:2], dy.sum(axis=1)

    assert "The sum runs over the wrong axis." in graded(other_axis, "bn-backward")


def test_arguments_changed_in_place_are_told():
    def bn_forward(x, gamma, beta, eps):
        x -= x.mean(axis=0)
        return gamma * x / np.sqrt((x**2).mean(axis=0) + eps) + beta

    assert "changes its argument x in place" in graded(bn_forward, "bn-forward")


def test_results_that_change_with_a_second_call_are_told():
    rng = np.random.default_rng(0)

    def linear_moments(mean, var, weight, bias):
        return mean @ weight + bias + 1e-3 * rng.normal(), var @ weight**2

    assert "A second call with the same arguments returns something else" in graded(linear_moments, "linear-moments")


def test_numbers_from_outside_are_told():
    source = SOURCES["bn-backward"].replace("    m = len(x)\n", "")
    names = {"np": np, "m": 9}
    exec(source, names)
    text = graded(names["bn_backward"], "bn-backward")
    assert "The function reads m (= 9) from outside" in text
    del names["m"]
    assert "name 'm' is not defined" in graded(names["bn_backward"], "bn-backward")


def test_values_that_are_not_finite_are_told():
    def bn_forward(x, gamma, beta, eps):
        return gamma * (x - x.mean(axis=0)) / x.std(axis=0) + beta

    text = graded(bn_forward, "bn-forward")
    assert "y[0, 2] is nan on the data set “x with one channel whose samples are all equal”" in text


def test_an_answer_right_on_some_data_is_told_where():
    def bn_forward(x, gamma, beta, eps):
        y = RIGHT["bn-forward"](x, gamma, beta, eps)
        return y + 0.1 * np.sin(np.arange(y.size).reshape(y.shape)) * (len(x) == 3)

    text = graded(bn_forward, "bn-forward")
    assert "wrong on 1 of 6 data sets, most on the data set “x of three samples only”" in text
    assert "y is right on the data sets “x with mean 3 and deviation 2”, " in text


def test_elements_are_listed_by_the_size_of_their_error():
    def linear_moments(mean, var, weight, bias):
        right, var = RIGHT["linear-moments"](mean, var, weight, bias)
        off = np.zeros(len(bias))
        off[:3] = [0.5, 2.0, -1.0][: len(bias)]
        return right + off**3, var

    lines = graded(linear_moments, "linear-moments").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("output_mean  wrong on 5 of 5"))
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == [
        "output_mean[1]",
        "output_mean[2]",
        "output_mean[0]",
    ]
    assert lines[at + 1].endswith("off by +8") and lines[at + 2].endswith("off by -1")


def test_a_grade_shows_itself():
    good, bad = kr.oracle.grade(fuse, "kn-fuse"), kr.oracle.grade(lambda a, b, c, d, e: (a < 1, b), "kn-fuse")
    assert repr(good) == good.text == "kn-fuse: right\n\n2 results on 6 data sets, each within what rounding may cost."
    assert good and not bad
    assert "<b>kn-fuse: not right yet</b>" in bad._repr_html_()
    assert "(a < 1" not in bad._repr_html_()


def test_a_warning_of_numpy_is_no_accident():
    def relu_moments(mean, var):
        return np.log(-np.abs(mean)), var / 0.0

    assert "nan" in graded(relu_moments, "relu-moments")


# ---- the tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_the_steps_return_what_the_solution_returns(exercise):
    for data in exercise.sets:
        got = RIGHT[exercise.name](*data.arguments.values())
        got = got if isinstance(got, tuple) else (got,)
        want, bound = results(exercise, data), tolerance(exercise, data, LEVELS[0])
        for output, a in zip(exercise.outputs, got, strict=True):
            assert np.all(np.abs(a - want[output.name]) <= bound[output.name])
            assert np.all(bound[output.name] < 1e-8 * (1 + np.max(np.abs(want[output.name]))))


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_mistakes_differ_from_the_truth_and_from_each_other(exercise):
    truth = [results(exercise, data) for data in exercise.sets]
    found = {}
    assert len({m.name for m in exercise.mistakes}) == len(exercise.mistakes) >= 25
    for one in exercise.mistakes:
        found[one.name] = [results(exercise, data, one.steps) for data in exercise.sets]
        others = {"the truth": truth} | {name: a for name, a in found.items() if name != one.name}
        for name, other in others.items():
            same = all(near(a[o], b[o], "float64") for a, b in zip(found[one.name], other, strict=True) for o in a)
            assert not same, (one.name, name)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_terms_add_up_to_the_result(exercise):
    for name, terms in exercise.terms.items():
        for data in exercise.sets:
            found = values(exercise, data)
            parts = [t.factor * t.value(**{p: found[p] for p in t.value.__code__.co_varnames}) for t in terms]
            want = results(exercise, data)[name]
            np.testing.assert_allclose(np.reshape(sum(parts), want.shape), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_no_sentence_contains_code_of_a_solution(exercise):
    texts = [m.text for m in exercise.mistakes] + [t.text for terms in exercise.terms.values() for t in terms]
    for text in texts:
        assert not re.search(r"=|@|\*|np\.|sum\(|mean\(|sqrt|\w\[|\^", text), text


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_data_are_exact_in_float32_and_of_several_sizes(exercise):
    for data in exercise.sets:
        for name, a in data.arguments.items():
            if isinstance(a, np.ndarray):
                assert np.array_equal(a, a.astype("f4")), (data.name, name)
                assert a.dtype == np.float64
    assert len({np.shape(a) for data in exercise.sets for a in data.arguments.values()}) > 2
