"""What every test file shares: the choice of backend."""

import os

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
