"""Holds one run of a sweep to its promises: what was learned, json in and out, bits as asked for or none."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sweep_runs import SMALL, small
from threadpoolctl import threadpool_info, threadpool_limits

import kalnorm_ref as kr
from kalnorm_ref import backend as backends
from kalnorm_ref.experiments import settings, train
from kalnorm_ref.experiments.sweep import worker
from kalnorm_ref.experiments.sweep.worker import learned, task_of, work


@pytest.mark.parametrize(
    "norm",
    [
        "kn-learned",
        "kn-learned:transition=diagonal,noise_form=diagonal",
        "kn-learned:covariance=full,noise_form=cholesky",
    ],
)
def test_learned_values_are_those_of_the_parameters(norm):
    (chosen,) = small([norm], [0], train_images=64)
    run = train.prepare(chosen)
    train.proceed(run, progress=False)
    state = {name: value.copy() for name, value in run.net.state().items()}
    first, row = learned(run.net, run.dataset.train_images[:8])
    assert first == {"layer": "2", "gain": None, "noise": None, "transition": None} and row["layer"] == "5"
    params = {name.removeprefix("5."): p.astype(float) for name, p in run.net.params.items() if name.startswith("5.")}
    assert row["gain"] == {"mean": pytest.approx(1 / (1 + math.exp(-params["gain_logit"]))), "spread": 0}
    a = params["transition"]
    diagonal = a if a.ndim == 1 else [a[i, i] for i in range(len(a))]
    rest = 0 if a.ndim == 1 else math.sqrt(sum(a[i, j] ** 2 for i in range(len(a)) for j in range(len(a)) if i != j))
    assert row["transition"]["mean"] == pytest.approx(np.mean(diagonal), rel=1e-6)
    assert row["transition"]["spread"] == pytest.approx(np.std(diagonal), rel=1e-5)
    assert row["transition"]["rest"] == pytest.approx(rest, rel=1e-6)
    if "noise_factor" in params:
        noise = [sum(params["noise_factor"][i, j] ** 2 for j in range(i + 1)) for i in range(len(a))]
    else:
        noise = np.exp(params["log_noise"])
    assert row["noise"] == {
        "mean": pytest.approx(np.mean(noise), rel=1e-6),
        "spread": pytest.approx(np.std(noise), rel=1e-4, abs=1e-12),
    }
    assert all(value.tobytes() == state[name].tobytes() for name, value in run.net.state().items())


@pytest.mark.parametrize(
    ("norm", "held"), [("kn-shrink", (True, False)), ("kn-analytic", (False, False)), ("gkn", (True, True))]
)
def test_learned_values_are_none_where_there_are_none(norm, held):
    (chosen,) = small([norm], [0], train_images=64)
    run = train.prepare(chosen)
    *_, row = learned(run.net, run.dataset.train_images[:8])
    assert (row["noise"] is not None, row["transition"] is not None) == held and 0 < row["gain"]["mean"] < 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": "9"}, f"RuntimeError: this worker has kalnorm_ref {kr.__version__}; expected 9"),
        (
            {"instruction_set": "sse9"},
            f"RuntimeError: this worker runs kernels for {backends.instruction_set()}; expected sse9: "
            "set KALNORM_INSTRUCTION_SET alike everywhere",
        ),
    ],
)
def test_a_worker_of_another_kind_refuses(change, error):
    task = task_of(small(["bn"], [0])[0])
    answer = work(task | {"identity": task["identity"] | change})
    assert answer["error"] == error and "result" not in answer


def test_a_task_and_its_answer_are_json():
    task = task_of(settings.make(norm="brn", brn_ramp=(1, 2, 3), **SMALL | {"train_images": 64}))
    answer = work(json.loads(json.dumps(task)))
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer and answer["result"]["settings"]["brn_ramp"] == [
        1,
        2,
        3,
    ]


def test_a_run_has_blas_on_one_thread(monkeypatch):
    """From its first product to the look at what was learned, whatever the process had before."""
    seen = []

    def looking(*arguments):
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return []

    monkeypatch.setattr(worker, "learned", looking)
    with threadpool_limits(2, "blas"):
        assert "result" in work(task_of(small(["bn"], [0], train_images=64)[0]))
    assert set(seen) == {1}


def test_a_process_does_one_run_at_a_time(monkeypatch):
    """Dask gives a worker as many as it has threads, and those share the number of threads of BLAS and kernels."""
    inside, most = [], []

    def slow(task):
        inside.append(task)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return {}

    monkeypatch.setattr(worker, "_result", slow)
    tasks = [task_of(run) for run in small(["bn"], [0, 1, 2])]
    with ThreadPoolExecutor(3) as executor:
        assert list(executor.map(work, tasks)) == [{"result": {}}] * 3
    assert most == [1, 1, 1]
