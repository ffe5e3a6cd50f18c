"""Holds the peer to its promise: PyTorch trains the very network of ours, in a process that knows nothing of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tolerances import NETWORK

import kalnorm_ref as kr
from kalnorm_ref.bench import cases, worker
from kalnorm_ref.gradcheck import max_error

torch = pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)
from kalnorm_ref.bench import torch_resnet  # noqa: E402

SGD = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.05}


def both(depth, format=torch.contiguous_format):
    """{name: (ours, PyTorch's)} in float64 of two steps from the same weights, on maps of 8 x 8."""
    rng = np.random.default_rng([depth, 3])
    net = kr.models.resnet(depth, "bn", dtype=np.float64)
    for p in net.params.values():
        p += rng.normal(0.1, 0.2, p.shape)  # gamma is not all ones, beta not all zeros
    peer = torch_resnet.resnet(depth).double().to(memory_format=format).train()
    torch_resnet.load(peer, net.params)
    optimizer, peer_optimizer = kr.SGD(net, **SGD), torch_resnet.sgd(peer, **SGD)
    found = {}
    for step in range(2):
        x, labels = rng.normal(3, 2, (5, 8, 8, 3)), rng.integers(0, 10, 5)
        logits = net.forward(x, training=True)
        loss, dlogits = kr.cross_entropy(logits, labels)
        net.backward(dlogits)
        images = torch.tensor(x).permute(0, 3, 1, 2).contiguous(memory_format=format)
        theirs = peer(images)
        peer_loss = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels))
        peer_optimizer.zero_grad()
        peer_loss.backward()
        found[f"{step} logits"] = logits, theirs.detach().numpy()
        found[f"{step} loss"] = loss, peer_loss.item()
        for path, gradient in net.grads.items():
            there = peer.get_parameter(torch_resnet.torch_path(path))
            found[f"{step} gradient {path}"] = torch_resnet.torch_layout(gradient).copy(), there.grad.numpy().copy()
        optimizer.step()
        peer_optimizer.step()
        for path, p in net.params.items():
            there = peer.get_parameter(torch_resnet.torch_path(path))
            found[f"{step} weight {path}"] = torch_resnet.torch_layout(p).copy(), there.detach().numpy().copy()
    assert len(found) == 2 * (2 + 2 * len(net.params)) and len(net.params) == len(list(peer.parameters()))
    return found


def furthest(found):
    """The largest error of all."""
    return max(max_error(ours, theirs) for ours, theirs in found.values())


@pytest.mark.parametrize("depth", [8, 14])
def test_both_networks_have_the_same_logits_loss_and_gradients_and_take_the_same_step(depth):
    for name, (ours, theirs) in both(depth).items():
        assert max_error(ours, theirs) < NETWORK, name


def test_the_memory_format_changes_nothing_but_the_layout():
    assert furthest(both(8, torch.channels_last)) < NETWORK
    seen = []
    net = torch_resnet.resnet(14).to(memory_format=torch.channels_last)
    for layer in net.modules():
        layer.register_forward_hook(lambda layer, x, y: seen.append(y))
    net(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last))
    maps = [y for y in seen if y.ndim == 4 and y.shape[2] > 1]
    assert len(maps) > 40 and all(y.is_contiguous(memory_format=torch.channels_last) for y in maps)


def lopsided(self, x):
    return torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 2 * self.side))


MISTAKES = {
    "shortcut pooled by its maximum": (torch.nn, "AvgPool2d", torch.nn.MaxPool2d),
    "channels padded on one side": (torch_resnet.PadChannels, "forward", lopsided),
    "no shortcut": (torch_resnet.Residual, "forward", lambda self, x: self.main(x)),
    "another eps": (torch.nn, "BatchNorm2d", lambda c, norm=torch.nn.BatchNorm2d: norm(c, eps=1e-6)),
    "decay of every parameter": (
        torch_resnet,
        "sgd",
        lambda net, **options: torch.optim.SGD(net.parameters(), **options),
    ),
    "a kernel turned": (torch_resnet, "torch_layout", lambda a: a.T),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_network_is_seen(name, monkeypatch):
    monkeypatch.setattr(*MISTAKES[name])
    assert furthest(both(8)) > 1e3 * NETWORK


def test_pytorch_works_on_every_kind_of_case_without_ours_and_its_environment():
    """What our package sets for OpenMP on import is not there, and neither is the package."""
    script = (
        "import json, os, runpy, sys; sys.argv = ['', 'torch', '1', 'numpy']\n"
        f"runpy.run_path({str(Path(worker.__file__))!r}, run_name='__main__')\n"
        "loaded = sorted(name for name in sys.modules if name.startswith('kalnorm_ref'))\n"
        "print(json.dumps([loaded, [*os.environ]]), file=sys.stderr)"
    )
    requests = [{"prepare": case} for part in cases.PEERED for case in cases.cases(part, quick=True)[-2:]]
    requests += [{"turn": "nchw", "repeats": 2}, {"memory": cases.cases("memory", quick=True)[0], "calls": 1}]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, input=lines, capture_output=True, text=True, timeout=60, check=True)
    first, *prepared, turn, memory = map(json.loads, done.stdout.splitlines())
    assert first["versions"] == {"torch": torch.__version__} and len(prepared) == len(requests) - 2 == 5
    assert all([*answer["seconds"]] == ["channels_last", "nchw"] for answer in prepared)
    assert len(turn["seconds"]) == 2 and 0 < memory["before"] < memory["peak"]
    loaded, names = json.loads(done.stderr.splitlines()[-1])
    package = ["kalnorm_ref", "kalnorm_ref.bench"]
    assert loaded == [*package, "kalnorm_ref.bench.torch_cases", "kalnorm_ref.bench.torch_resnet"]
    assert "PATH" in names and not [name for name in names if "OMP_" in name]
