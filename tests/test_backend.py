"""The choice of backend and of threads: who answers, for how long, and what is refused."""

import contextvars
import re
import threading

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import backend

X = np.random.default_rng(6).normal(7, 3, (5, 2))


@pytest.mark.parametrize("name", ["NumPy", "", "torch", None, 3])
def test_unknown_backend(name):
    with pytest.raises(ValueError, match=rf"^backend is {re.escape(repr(name))}; expected one of 'numpy', 'cython'$"):
        kr.use_backend(name)


def test_missing_extension_raises_at_the_call_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(backend, "_core", None)
    before = kr.get_backend()
    message = (
        "the compiled backend of kalnorm_ref is not built; install a C compiler and reinstall, "
        'or continue with use_backend("numpy")'
    )
    with pytest.raises(ImportError, match=rf"^{re.escape(message)}$"):
        kr.use_backend("cython")
    assert kr.get_backend() == before


def test_the_choice_ends_with_its_context_even_after_an_error():
    before = kr.get_backend()
    other = "cython" if before == "numpy" else "numpy"
    context = backend._using(other)  # what use_backend returns, of a backend that need not be built
    assert kr.get_backend() == before
    with pytest.raises(RuntimeError, match=r"^inside$"), context:
        assert kr.get_backend() == other
        with kr.use_backend("numpy"):
            assert kr.get_backend() == "numpy"
        assert kr.get_backend() == other
        raise RuntimeError("inside")
    assert kr.get_backend() == before


def test_the_choice_belongs_to_one_thread():
    """Another thread sees its own context, not what this one chose."""
    seen = []
    with backend._using("cython"):
        other = threading.Thread(target=contextvars.Context().run, args=(lambda: seen.append(kr.get_backend()),))
        other.start()
        other.join()
    assert seen == ["numpy" if backend._core is None else "cython"]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("observe", lambda z: kr.observe(z)),
        ("batch_norm_forward", lambda z: kr.batch_norm_forward(z, None, None)),
        ("batch_norm_forward", lambda z: kr.batch_norm_forward(X, z[0], None)),
        ("kalman_norm_forward", lambda z: kr.kalman_norm_forward(X, None, None, kr.Moments(z[0], X[0]), 0.5)),
        ("kalman_norm_forward", lambda z: kr.kalman_norm_forward(X, None, None, kr.Moments(X[0], X[0]), 0.5 + 0j)),
        ("fuse", lambda z: kr.fuse(kr.Moments(X[0], X[0]), kr.Moments(z[0], X[0]), 0.5)),
        ("predict", lambda z: kr.predict(kr.Moments(X[0], X[0]), z, 0.5)),
        ("batch_renorm_forward", lambda z: kr.batch_renorm_forward(z, None, None, 1.0, 0.0)),
    ],
)
def test_complex_data_needs_the_numpy_backend(name, call):
    z = X + 0j
    with kr.use_backend("numpy"):
        call(z)
    message = f'{name} got complex data, which only the NumPy backend takes: use_backend("numpy")'
    with backend._using("cython"), pytest.raises(TypeError, match=rf"^{re.escape(message)}$"):
        call(z)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "2", None])
def test_number_of_threads(n):
    error, expected = (ValueError, "at least 1") if n in (0, -1) else (TypeError, "an integer")
    message = f"number of threads is {n!r}; expected {expected}"
    before = backend.get_num_threads()
    with pytest.raises(error, match=rf"^{re.escape(message)}$"):
        kr.set_num_threads(n)
    assert backend.get_num_threads() == before


def test_set_num_threads_is_kept(monkeypatch):
    monkeypatch.setattr(backend, "_num_threads", backend.get_num_threads())
    kr.set_num_threads(3)
    assert backend.get_num_threads() == 3


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("predict", lambda a: kr.full.predict(a[0], a, a, a)),
        ("relu", lambda a: kr.transport.relu(kr.Moments(a[0], a[0]))),
        ("kalman_filter_norm_forward", lambda a: kr.kalman_filter_norm_forward(a, None, None, None)),
    ],
)
def test_complex_data_need_the_numpy_backend_also_without_a_twin(name, call):
    a = np.eye(2, dtype=complex)
    with kr.use_backend("numpy"):
        call(a)
    message = f'{name} got complex data, which only the NumPy backend takes: use_backend("numpy")'
    with kr.use_backend("cython"), pytest.raises(TypeError, match=rf"^{re.escape(message)}$"):
        call(a)
