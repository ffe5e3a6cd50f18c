"""What every test file shares: the choice of backend."""

import os

import numpy as np
import pytest

import kalnorm_ref as kr


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
def reseeded(request):
    """Start the generator of the test's module, and of its `images`, anew: no number depends on the tests before."""
    places = vars(request.module), request.module.images.__globals__
    for seed, place in enumerate(places):
        place["rng"] = np.random.default_rng([57, seed])
