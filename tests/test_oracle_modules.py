"""Holds `from_module` to its promise: a module of PyTorch is judged as it is; no part of a verdict is the adapter's."""

import copy
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from kalnorm_ref import oracle  # noqa: E402
from kalnorm_ref.oracle import core  # noqa: E402
from kalnorm_ref.oracle.arrays import given, returned  # noqa: E402
from kalnorm_ref.oracle.modules import from_module  # noqa: E402
from kalnorm_ref.oracle.target import TargetError, load  # noqa: E402
from kalnorm_ref.oracle.verdict import RIGHT  # noqa: E402

nn = torch.nn
ORDINARY = "bn/ordinary/float32"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def one(name):
    (case,) = core.choose([name])
    return case


def layer(case, **options):
    return nn.BatchNorm2d(case.channels, eps=case.params["eps"], **options)


class Own(nn.Module):
    """Somebody's batch normalization: parameters called gamma and beta, biased running variance."""

    def __init__(self, channels):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps, self.momentum, self.updates = 1e-5, 0.1, 0

    def forward(self, x):
        wide = x.to(self.gamma.dtype)
        axes = [i for i in range(x.dim()) if i != 1]
        mean, var = self.running_mean, self.running_var
        if self.training:
            var, mean = self.moments(wide, axes)
            self.update(mean.detach(), var.detach())
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean, std, gamma, beta = (a.view(shape) for a in (mean, (var + self.eps).sqrt(), self.gamma, self.beta))
        return ((wide - mean) / std * gamma + beta).to(x.dtype)

    def moments(self, x, axes):
        return torch.var_mean(x, axes, correction=0)

    def update(self, mean, var):
        self.updates += 1
        weight = 1 / self.updates if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(var, weight)


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"])
def test_no_false_alarm(name):
    cases = [c for c in core.choose(["bn/*"]) if c.layout != "NLC" or c.dtype in ("float64", "float32")]
    report = oracle.verify(from_module(getattr(nn, name)), cases, min_cases=2)
    assert {r.verdict for r in report.judged} <= set(RIGHT), str(report)
    if name == "BatchNorm2d":
        assert len({(r.case.layout, r.case.training) for r in report.judged}) >= 3
        assert len({r.case.dtype for r in report.judged}) == 4
        judged = {t.name for r in report.judged for t in r.tensors}
        assert judged == {"y", "dx", "dgamma", "dbeta", "running_mean", "running_var"}


def test_group_norm_is_right_with_channels_first():
    report = oracle.verify(from_module(nn.GroupNorm), ["gn/*NC[HDL]*"], min_cases=3)
    assert {r.verdict for r in report.judged} <= set(RIGHT), str(report)


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="seen in PyTorch 2.13")
def test_what_pytorch_does_on_a_cpu():
    """Sums of a strided x in half precision are kept in it; GroupNorm with channels last takes E[x^2] - E[x]^2."""
    (result,) = oracle.verify(from_module(nn.BatchNorm1d), ["bn/inference-after-training/bfloat16"]).results
    dbeta = next(t for t in result.tensors if t.name == "dbeta")
    assert dbeta.verdict == "FAIL" and dbeta.got == float(torch.tensor(dbeta.want).bfloat16())
    report = oracle.verify(from_module(nn.GroupNorm), ["gn/*"])
    assert report.counts().keys() - {"SKIP"} == {"SINGLEPASS", "PASS"}
    assert {r.case.layout for r in report.failures} <= {"NHWC"} and len(report.failures) > 5


def test_own_module_by_its_class():
    report = oracle.verify(from_module(Own), ["bn/*"], min_cases=60)
    assert {r.verdict for r in report.judged} <= set(RIGHT), str(report)
    assert {"NC", "NLC", "NCL", "NCHW", "NHWC", "NCDHW", "NDHWC"} == {r.case.layout for r in report.judged}
    assert not {r.case.op for r in report.judged} - {"bn"}


def test_a_module_is_asked_the_cases_of_its_channels_and_eps():
    module = layer(one("bn/eps-0.001/float32"))
    before = copy.deepcopy(module.state_dict())
    report = oracle.verify(from_module(module), ["bn/*"])
    assert report.judged
    assert all(r.case.channels == module.num_features and r.case.params["eps"] == 1e-3 for r in report.judged)
    assert {r.verdict for r in report.judged} <= set(RIGHT)
    notes = {r.note for r in report.results if r.verdict == "SKIP"}
    assert "the module has eps 0.001, the case 1e-05" in notes
    assert all(torch.equal(a, before[name]) for name, a in module.state_dict().items())


def test_what_a_module_held_before_does_not_count():
    case = one("bn/no-gamma/float32")
    module = layer(case)
    with torch.no_grad():
        for a in (module.weight, module.bias, module.running_mean, module.running_var, module.num_batches_tracked):
            a.fill_(7)
    names = ["bn/no-gamma/float32", "bn/no-beta/float32", "bn/no-parameters/float32"]
    factory = from_module(module)
    assert oracle.verify(factory, names, min_cases=3).exit_code == 0
    cumulative = case._replace(params={**case.params, "decay": None})
    assert oracle.verify(factory, [cumulative]).exit_code == 0


def test_a_module_without_parameters_is_asked_the_cases_without():
    report = oracle.verify(from_module(layer(one("bn/no-parameters/float32"), affine=False)), ["bn/*"])
    assert report.judged and report.exit_code == 0
    assert not any("gamma" in r.case.tensors or "beta" in r.case.tensors for r in report.judged)
    assert "the module is not affine, the case is" in {r.note for r in report.results}


def test_conventions_are_declared_and_matter():
    def biased(case):
        module = layer(case)
        module.conventions = ()
        return module

    report = oracle.verify(from_module(nn.BatchNorm2d), [ORDINARY])
    assert report.exit_code == 0 and report.declared == ("one-value-error", "running-var-unbiased")
    assert oracle.verify(from_module(biased), ["bn/*"]).counts()["CONVENTION:running-var-unbiased"] >= 10


def test_one_value_per_channel_is_an_error_as_declared():
    (result,) = oracle.verify(from_module(nn.BatchNorm1d), ["bn/one-value-per-channel/float32"]).results
    assert result.verdict == "PASS" and "Expected more than 1 value per channel" in result.note


def test_momentum_none_is_the_cumulative_average():
    report = oracle.verify(from_module(Own), ["bn/cumulative*"], min_cases=3)
    assert report.exit_code == 0, str(report)


class MeanIsConstant(Own):
    def moments(self, x, axes):
        var, mean = super().moments(x, axes)
        return var, mean.detach()


class VarIsConstant(Own):
    def moments(self, x, axes):
        var, mean = super().moments(x, axes)
        return var.detach(), mean


class OnePass(Own):
    def moments(self, x, axes):
        mean = x.mean(axes)
        return (x * x).mean(axes) - mean * mean, mean


class OtherMomentum(Own):
    def update(self, mean, var):
        self.running_mean.lerp_(mean, 1 - self.momentum)
        self.running_var.lerp_(var, 1 - self.momentum)


class WritesOverItsInput(Own):
    def forward(self, x):
        y = super().forward(x)
        x.data.copy_(y)
        return y


@pytest.mark.parametrize(
    ("wrong", "case", "verdict"),
    [
        (MeanIsConstant, ORDINARY, "BUG?:dx-lacks-mean"),
        (VarIsConstant, ORDINARY, "BUG?:dx-lacks-projection"),
        (OnePass, "bn/offset-1000/float32", "SINGLEPASS"),
        (OtherMomentum, ORDINARY, "CONVENTION:decay-weighs-new"),
        (WritesOverItsInput, ORDINARY, "FAIL"),
    ],
)
def test_mistakes_of_a_module_are_seen(wrong, case, verdict):
    assert oracle.verify(from_module(Own), [case]).exit_code == 0
    (result,) = oracle.verify(from_module(wrong), [case]).results
    assert result.verdict == verdict, result.tensors
    if wrong is WritesOverItsInput:
        assert {"x": "the target changed its input"}.items() <= {t.name: t.note for t in result.tensors}.items()


def test_a_gradient_that_does_not_flow_is_zero_and_wrong():
    class Cut(Own):
        def forward(self, x):
            kept, self._parameters["beta"] = self.beta, nn.Parameter(self.beta.detach())
            y = super().forward(x)
            self._parameters["beta"] = kept
            return y

    (result,) = oracle.verify(from_module(Cut), [ORDINARY]).results
    wrong = {t.name: t for t in result.tensors if t.verdict not in RIGHT}
    assert wrong.keys() == {"dbeta"} and wrong["dbeta"].got == 0


def test_gradients_do_not_add_up_and_inputs_stay():
    case = one(ORDINARY)
    target = from_module(nn.BatchNorm2d)(case)
    answers = []
    for _ in range(2):
        target.set_state({name: given(case, name, a) for name, a in case.state.items()})
        tensors = {name: given(case, name, a) for name, a in case.tensors.items()}
        dy = given(case, "dy", case.upstream["dy"])
        out = target.forward(tensors, True) | target.backward(dy=dy) | target.get_state()
        answers.append({name: returned(a)[0] for name, a in out.items()})
        assert all(np.array_equal(tensors[name], a) for name, a in case.tensors.items())
        assert np.array_equal(dy, case.upstream["dy"])
    assert all(np.array_equal(answers[0][name], answers[1][name]) for name in answers[0])
    assert all(p.grad is None for p in target.module.parameters())


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_what_a_module_is_given(layout, dtype):
    seen = {}

    class Looks(Own):
        def forward(self, x):
            seen.update(x=x, gamma=self.gamma)
            return super().forward(x)

    case = next(c for c in core.choose(["bn/*"]) if c.layout == layout and c.dtype == "float32" and c.training)
    case = case._replace(dtype=dtype, tensors={**case.tensors, "x": np.round(case.tensors["x"])}, view=None)
    target = from_module(Looks)(case)
    target.set_state({name: given(case, name, a) for name, a in case.state.items()})
    target.forward({name: given(case, name, a) for name, a in case.tensors.items()}, True)
    axes = (0, 1, 2, 3) if layout == "NCHW" else (0, 3, 1, 2)
    kept = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    assert seen["x"].dtype == getattr(torch, dtype) and seen["x"].is_contiguous(memory_format=kept)
    assert seen["gamma"].dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert np.array_equal(returned(seen["x"])[0], case.tensors["x"].transpose(axes))


def test_padded_views_keep_their_gaps():
    (case,) = core.choose(["bn/view-padded-NHWC/float32"])
    seen = []

    class Looks(Own):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    report = oracle.verify(from_module(Looks), [case])
    assert report.exit_code == 0
    assert seen[0].stride() == tuple(n // 4 for n in given(case, "x", case.tensors["x"]).transpose(0, 3, 1, 2).strides)
    room = seen[0].detach().as_strided((seen[0].untyped_storage().nbytes() // 4,), (1,))
    assert room.isnan().sum() == room.numel() - seen[0].numel() > 0


def test_a_text_in_the_place_of_a_module_is_the_reason_of_a_skip():
    report = oracle.verify(from_module(lambda case: "it rains"), [ORDINARY])
    assert report.exit_code == 3 and report.results[0].note == "it rains"


def test_a_parameter_that_the_module_lacks_is_an_error():
    (result,) = oracle.verify(from_module(lambda case: nn.Identity()), [ORDINARY]).results
    assert result.verdict == "ERROR" and "Identity has no weight or gamma" in result.note


def test_cuda_without_a_device_is_skipped_with_the_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    report = oracle.verify(from_module(nn.BatchNorm2d, device="cuda"), [ORDINARY])
    assert report.exit_code == 3 and report.results[0].note == "PyTorch sees no CUDA device here"


def test_by_its_name():
    assert oracle.verify(load("torch.nn:BatchNorm2d", "module"), [ORDINARY]).exit_code == 0


def test_bad_targets(monkeypatch):
    with pytest.raises(TargetError, match=r"module is int; expected a torch\.nn\.Module or a function"):
        from_module(3)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TargetError, match="PyTorch's, which cannot be imported"):
        from_module(Own)
