"""Runs what stands in examples: the targets pass the conformance kit, and the blind test is blind."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from examples import blind_test, numpy_target
from kalnorm_ref import oracle
from kalnorm_ref.oracle import bugs, core
from kalnorm_ref.oracle.emulation import emulated
from kalnorm_ref.oracle.verdict import RIGHT

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """A module of examples that wants PyTorch."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    return importlib.import_module(f"examples.{name}")


def asked(factory, *patterns):
    """The report on a target; everything that was asked is right."""
    report = oracle.verify(factory, patterns, min_cases=50)
    assert report.exit_code == 0 and {r.verdict for r in report.judged} <= set(RIGHT), str(report)
    return report


def test_numpy_target_is_complete():
    report = asked(numpy_target.BatchNorm, "bn/*")
    assert {t.name for r in report.judged for t in r.tensors} >= {
        "y",
        "dx",
        "dgamma",
        "dbeta",
        "running_mean",
        "running_var",
    }
    assert {r.case.view for r in report.judged} == {None, "padded", "reversed"}


def test_torch_batch_renorm():
    report = asked(example("torch_modules").batch_renorm, "brn/*")
    lacking = {r.note for r in report.results if r.verdict == "SKIP"}
    assert lacking <= {"the target does not list reversed", "the target does not list statistics_batches"}
    assert {r.case.dtype for r in report.judged} == {"float64", "float32", "bfloat16", "float16"}


def test_torch_kalman_norm():
    report = asked(example("torch_modules").kalman_norm, "kn/*")
    assert {r.note for r in report.results if r.verdict == "SKIP"} == {"the target does not list reversed"}
    judged = {t.name for r in report.judged for t in r.tensors}
    assert judged >= {
        "dprevious_mean",
        "dprevious_var",
        "dtransition",
        "dnoise",
        "dgain",
        "estimate_mean",
        "running_var",
    }
    assert any(r.case.batches > 1 for r in report.judged)


@pytest.mark.parametrize("name", ["corr_r", "corr_d"])
def test_a_gradient_through_r_or_d_would_be_seen(name):
    modules = example("torch_modules")

    class Flows(modules.BatchRenorm):
        def forward(self, x):
            if not self.training:
                return super().forward(x)
            z, mean, var = self.batches(x)
            std, running_std = (var + self.eps).sqrt(), self.running_std.clone()
            r = (std / running_std).clamp(1 / self.r_max, self.r_max)
            d = ((mean - self.running_mean) / running_std).clamp(-self.d_max, self.d_max)
            r, d = (r, d.detach()) if name == "corr_r" else (r.detach(), d)
            self.track(running_mean=mean, running_std=std)
            z = (z - modules.per_channel(mean)) / modules.per_channel(std)
            return self.affine(z * modules.per_channel(r) + modules.per_channel(d), x)

    factory = modules.from_module(Flows)
    assert oracle.verify(factory, ["brn/closed/float32"]).exit_code == 0
    report = oracle.verify(factory, ["brn/open/float32"])
    assert {t.name for t in report.results[0].tensors if t.verdict not in RIGHT} == {"dx"}


def test_trainable_keeps_what_it_computes_and_stays_in_bounds():
    modules = example("torch_modules")
    torch = modules.torch
    torch.manual_seed(0)
    x, previous = 3 + 2 * torch.randn(8, 4, 3, 3), (torch.randn(6), torch.rand(6) + 0.5)
    plain, bound = (modules.KalmanNorm(4, 6, gain=0.7, noise=0.3) for _ in range(2))
    modules.trainable(bound)
    assert torch.allclose(plain(x, previous)[0], bound(x, previous)[0], rtol=1e-6)
    optimizer = torch.optim.SGD(bound.parameters(), lr=100.0)
    for _ in range(3):
        optimizer.zero_grad()
        y, (mean, var) = bound(x, previous)
        ((y * torch.randn_like(y)).sum() + mean.sum() + var.sum()).backward()
        optimizer.step()
        assert bound.noise > 0 and 0 <= bound.gain <= 1
    assert not torch.allclose(bound.gain, plain.gain) and not torch.allclose(bound.noise, plain.noise)


def test_estimates_travel_and_send_gradients_back():
    modules = example("torch_modules")
    torch = modules.torch
    torch.manual_seed(0)
    first, second = modules.KalmanNorm(3), modules.KalmanNorm(5, 3)
    x, weights = torch.randn(6, 3), torch.randn(3, 5)
    y, estimate = first(x)
    z, _ = second(y.detach() @ weights, estimate)
    z.mul(torch.randn_like(z)).sum().backward()
    assert second.transition.grad.abs().sum() > 0 and first.weight.grad is None
    first.eval()
    assert torch.equal(first(x)[1][0], first.running_mean)


def test_triton_kernels_import_and_say_what_they_lack(monkeypatch):
    kernels = example("triton_kernels")
    monkeypatch.setattr(kernels, "triton", None)
    monkeypatch.setattr(kernels.torch.cuda, "is_available", lambda: True)
    for factory in (kernels.batch_norm, kernels.kalman_norm):
        report = oracle.verify(factory, ["bn/ordinary/float32", "kn/ordinary/float32"])
        assert report.exit_code == 3 and {r.note for r in report.results} == {"Triton is not installed"}


def test_triton_kernels_in_the_interpreter():
    pytest.importorskip("triton", reason="Triton is not installed")
    kernels = example("triton_kernels")
    if not kernels.INTERPRETED:
        pytest.skip("TRITON_INTERPRET is not 1")
    patterns = ["*/ordinary/float32", "*/ordinary/float16", "kn/batches-2/float32", "bn/view-padded-NCHW/float32"]
    for factory, op in ((kernels.batch_norm, "bn"), (kernels.kalman_norm, "kn")):
        cases = [case for case in core.choose(patterns) if case.op == op]
        assert oracle.verify(factory, cases, min_cases=3).exit_code == 0


# ---- the blind test ----------------------------------------------------------------------------------------------


def test_the_blind_test_is_blind_and_the_kit_is_not():
    assert blind_test.usual_test(numpy_target.BatchNorm) and blind_test.usual_test(blind_test.NoProjection)
    (result,) = oracle.verify(blind_test.NoProjection, blind_test.ORDINARY).results
    assert result.verdict == "BUG?:dx-lacks-projection"
    assert oracle.verify(numpy_target.BatchNorm, blind_test.ORDINARY).exit_code == 0


def test_the_blind_test_sees_what_ones_can_show():
    assert not blind_test.usual_test(emulated(changes=bugs.find("dx-lacks-mean").steps))


def test_its_bugs_change_gradients_alone():
    found = {bug.name for bug in blind_test.backward_bugs()}
    assert {"dx-lacks-projection", "dx-lacks-mean", "dgamma-sign"} <= found
    others = {"eps-missing", "running-values-not-updated", "inference-forgets-eps"}
    assert not found & others and all(bugs.find(name).ops for name in others)
    assert len(found) > 30


def test_blind_test_prints_its_table(monkeypatch, capsys):
    two = [bugs.find(name) for name in ("dx-lacks-projection", "dx-lacks-mean")]
    monkeypatch.setattr(blind_test, "backward_bugs", lambda: iter(two))
    monkeypatch.setattr(blind_test, "CASES", blind_test.ORDINARY)
    blind_test.main()
    printed = capsys.readouterr().out
    assert "NoProjection: the usual test passes; the kit: NoProjection: 1 of 1 cases fail" in printed
    assert "Of 2 wrong backwards the usual test passes 1." in printed and "the kit catches 1 of these" in printed
    assert "dx-lacks-projection" in printed and "dx-lacks-mean" not in printed


# ---- strangers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def strangers():
    return example("strangers")


@pytest.mark.parametrize("layout", ["NC", "NCL", "NLC", "NCHW", "NHWC", "NCDHW", "NDHWC"])
def test_a_case_in_another_layout_is_the_same_question(strangers, layout):
    checked = 0
    for case in core.choose(["bn/ordinary/float64", "bn/layout-*", "bn/five-steps/float32", "bn/inference/float32"]):
        moved = strangers.relaid(case, layout)
        assert moved.id == f"{case.id}, {layout}" and moved.tensors["x"].ndim == len(layout)
        ours, theirs = core.truth(case), core.truth(moved)
        for name in ours:
            a, b = (np.moveaxis(t[name], c.layout.index("C"), -1) if name in ("y", "dx") else t[name]
                    for t, c in ((ours, case), (theirs, moved)))  # fmt: skip
            assert np.allclose(a.ravel(), b.ravel(), rtol=1e-12, atol=1e-15), name
            checked += 1
    assert checked > 20


def test_a_sample_is_not_flattened_where_it_is_a_statistics_batch(strangers):
    (case,) = core.choose(["gn/ordinary/float32"])
    assert strangers.relaid(case, "NC") is None and strangers.relaid(case, "NCHW") is not None


def test_the_page_is_written_between_its_markers(strangers, monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n{strangers.BEGIN}\nold\n{strangers.END}\nbelow\n", encoding="utf-8")
    monkeypatch.setattr(strangers, "PAGE", page)
    missing = strangers.Stranger("no_such_package", "no_such_package:layer", "bn", ("NHWC",))
    wrong = strangers.Stranger("numpy", "examples.blind_test:NoProjection", "bn", ("NHWC",))
    monkeypatch.setattr(strangers, "STRANGERS", (wrong, missing))
    monkeypatch.setattr(strangers, "on_gpu", lambda: ())
    strangers.main([])
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "above" and lines[-1] == "below" and "old" not in lines
    text = "\n".join(lines)
    assert "no_such_package was not asked: No module named 'no_such_package'." in text
    (row,) = (line for line in lines if line.startswith("| blind_test.NoProjection | NHWC |"))
    right, all_of_them = map(int, re.search(r"NHWC \| (\d+)/(\d+) \| \d+/\d+ \| - \| - \|", row).groups())
    assert 0 < right < all_of_them and "BUG?:dx-lacks-projection" in row
    assert "| BUG?:dx-lacks-projection | bn/" in text and "the target does not list" in text
    strangers.main([])
    assert page.read_text(encoding="utf-8") == text + "\n"


def test_the_page_that_is_there_has_the_markers_and_names_everybody(strangers):
    text = strangers.PAGE.read_text(encoding="utf-8")
    assert text.count(strangers.BEGIN) == text.count(strangers.END) == 1
    for stranger in strangers.STRANGERS:
        name = strangers.called(stranger)
        assert f"| {name} |" in text or f"{stranger.package} was not asked" in text


def test_every_example_is_named_in_the_help_that_it_gives():
    for path in EXAMPLES.glob("*.py"):
        for module, name in re.findall(r"kalnorm-ref verify examples\.(\w+):(\w+)", path.read_text(encoding="utf-8")):
            assert (EXAMPLES / f"{module}.py").is_file(), path
            assert re.search(rf"^(def |class )?[^#\n]*\b{name}\b", (EXAMPLES / f"{module}.py").read_text(), re.M), name
