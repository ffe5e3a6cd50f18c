"""Holds the runner of the conformance kit to its manners, and its diagnosis to bugs that nobody wrote as steps."""

import warnings

import numpy as np
import pytest

from kalnorm_ref import oracle
from kalnorm_ref.oracle import core
from kalnorm_ref.oracle.arithmetic import Arithmetic
from kalnorm_ref.oracle.emulation import Emulation, emulated

ORDINARY = ["bn/ordinary/float32", "gn/ordinary/float32"]


class OnlyBatchNorm(Emulation):
    """A target that reads what only its own operation has."""

    capabilities = frozenset({"bn.train", "bn.backward", "bn.state", "float32", "NHWC"})

    def __init__(self, case):
        super().__init__(case, Arithmetic("float32", "tree"))
        self.decay = case.params["decay"]


def test_a_class_is_not_made_for_what_it_does_not_list():
    right, skipped = oracle.verify(OnlyBatchNorm, ORDINARY).results
    assert (right.verdict, skipped.verdict) == ("PASS", "SKIP")
    assert "gn.train" in skipped.note


def test_a_factory_may_say_that_it_has_no_target():
    def factory(case):
        if case.op != "bn":
            raise NotImplementedError("batch normalization alone")
        return Emulation(case)

    right, skipped = oracle.verify(factory, ORDINARY).results
    assert (right.verdict, skipped.verdict) == ("PASS", "SKIP")
    assert skipped.note == "the factory has no target for it: batch normalization alone"


def test_any_other_error_of_a_factory_is_a_verdict():
    (result,) = oracle.verify(lambda case: case.params["missing"], ORDINARY[:1]).results
    assert (result.verdict, result.note) == ("ERROR", "the factory raised KeyError: 'missing'")


def test_warnings_of_a_target_are_its_own_affair():
    class Warns(Emulation):
        def forward(self, tensors, training):
            warnings.warn("overflow", RuntimeWarning, stacklevel=2)
            assert np.isinf(np.float32(1e30) ** 2)  # NumPy warns of it too, and pytest makes errors of warnings here
            return super().forward(tensors, training)

    (result,) = oracle.verify(Warns, ORDINARY[:1]).results
    assert result.verdict == "PASS"


@pytest.mark.parametrize("lost", [False, True])
def test_an_empty_batch_that_costs_the_running_values_is_told(lost):
    class Empty(Emulation):
        def forward(self, tensors, training):
            self.state = {name: a + (np.nan if lost else 0) for name, a in self.state.items()}
            return {"y": tensors["x"]}

        def backward(self, dy):
            return {}

    (result,) = oracle.verify(Empty, "bn/empty-batch/float32").results
    assert result.verdict == "PASS"
    assert result.note == ("no sample: running_mean and running_var became NaN" if lost else "no sample")


def test_an_empty_batch_has_an_empty_y():
    class Filled(Emulation):
        def forward(self, tensors, training):
            return {"y": np.zeros((1, *tensors["x"].shape[1:]), np.float32)}

        def backward(self, dy):
            return {}

    (result,) = oracle.verify(Filled, "bn/empty-batch/float32").results
    assert (result.verdict, result.note) == ("FAIL", "no sample, but values in y, or no y")


def test_a_case_that_an_explanation_does_not_fit_keeps_its_verdict():
    changes = {"dx": lambda rstd, dx_hat, mean_dx_hat: rstd * (dx_hat - mean_dx_hat)}

    class AlsoNaN(Emulation):
        def __init__(self, case):
            super().__init__(case, Arithmetic("float32", "tree"), changes)

        def backward(self, dy, **upstream):
            out = super().backward(dy, **upstream)
            return out | ({"dbeta": np.nan * out["dbeta"]} if "eps-1/" in self.case.id else {})

    report = oracle.verify(AlsoNaN, ["bn/ordinary/float32", "bn/eps*/float32"])
    verdicts = {result.case.id: result.verdict for result in report.results}
    assert verdicts.pop("bn/eps-1/float32") == "NONFINITE"
    assert set(verdicts.values()) == {"BUG?:dx-lacks-projection"}


def test_what_fits_no_bug_is_called_nothing():
    changes = {"dx": lambda dx_hat, rstd: dx_hat * rstd**3 + 0.125}
    report = oracle.verify(emulated(Arithmetic("float32", "tree"), changes), ["bn/ordinary/*", "bn/offset*"])
    assert {result.verdict for result in report.failures} == {"FAIL"}


def rectified(torch, slope):
    """A module of batch normalization with a ReLU that nobody asked for, differentiated by PyTorch."""

    class Rectified(torch.nn.BatchNorm2d):
        def __init__(self, case):
            super().__init__(case.channels)

        def forward(self, x):
            y = torch.relu(super().forward(x))
            return y if slope else (y + y.detach()) / 2  # the same y, and half of its gradients

    return Rectified


@pytest.mark.parametrize("slope", [True, False], ids=["its own gradients", "others"])
def test_a_wrong_forward_is_known_by_the_gradients_of_automatic_differentiation(slope):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    from kalnorm_ref.oracle.modules import from_module

    module = rectified(torch, slope)
    chosen = [case for case in core.choose(["bn/ordinary/float*", "bn/layout-N*"]) if case.layout in ("NCHW", "NHWC")]
    report = oracle.verify(from_module(lambda case: module(case)), chosen)
    assert len(report.failures) >= 3
    named = {result.verdict for result in report.failures}
    assert named == ({"BUG?:y-rectified"} if slope else {"FAIL"})
