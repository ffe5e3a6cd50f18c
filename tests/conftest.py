"""What every test file shares: the choice of backend, of its kernels and of the number of threads."""

import os
import signal

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import backend as backends


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Programs that tests start take Ctrl-C, also where a shell runs the tests in its background and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["numpy", "cython"])
def backend(request):
    """Run the test once in each backend; the compiled one is skipped, with the reason, where it may be missing."""
    try:
        context = kr.use_backend(request.param)
    except ImportError as error:
        if os.environ.get("KALNORM_REQUIRE_EXT") == "1":
            raise
        pytest.skip(str(error))
    with context:
        yield request.param


@pytest.fixture
def each_set():
    """A function that goes through the instruction sets of this machine: each is in use while its name is out."""
    core = backends._core
    before = core.instruction_set()

    def through():
        for name in core.instruction_sets():
            core.use_instruction_set(name)
            yield name

    yield through
    core.use_instruction_set(before)


@pytest.fixture
def one_thread(monkeypatch):
    """Where threads are not the point."""
    monkeypatch.setattr(backends, "_num_threads", 1)


@pytest.fixture
def reseeded(request):
    """Start the generator of the test's module, and of its `images`, anew: no number depends on the tests before."""
    places = vars(request.module), request.module.images.__globals__
    for seed, place in enumerate(places):
        place["rng"] = np.random.default_rng([57, seed])
