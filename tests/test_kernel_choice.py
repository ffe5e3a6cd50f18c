"""Which kernels run is a choice that holds, and that changes rounding alone; threads and what lies in memory change not
even that."""

import ctypes
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tolerances
from twin_cases import Values, cases, core, run

import kalnorm_ref as kr
from kalnorm_ref import backend
from kalnorm_ref.gradcheck import leaves, max_error

SETS = core.instruction_sets()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 37, 5), (300, 70)])
def test_the_sets_agree(shape, dtype, each_set, one_thread):
    limit = tolerances.TWINS if dtype == np.float64 else tolerances.TWINS_FLOAT32
    calls, first = list(cases(Values(shape, dtype=dtype))), None
    for _ in each_set():
        results = [run(name, arguments, "cython") for name, arguments in calls]
        first = first or results
        for (name, _), result, other in zip(calls, results, first, strict=True):
            assert max_error(result, other) <= limit, name


def test_a_set_is_in_use_until_another_is(each_set):
    assert SETS[0] == "portable" and core.instruction_set() in SETS
    for name in each_set():
        assert kr.backend.instruction_set() == name


@pytest.mark.parametrize("name", ["avx", "", "AVX2", None])
def test_an_unknown_set_is_refused_and_changes_nothing(name, each_set):
    for before in each_set():
        with pytest.raises(ValueError, match=rf"^instruction set is {name!r}; expected one of {', '.join(SETS)}$"):
            core.use_instruction_set(name)
        assert core.instruction_set() == before


def python(program, **environment):
    """What a new interpreter prints, and says on the error stream."""
    places = os.pathsep.join(map(str, (Path(kr.__file__).parent.parent, Path(__file__).parent)))
    inherited = {name: value for name, value in os.environ.items() if name != backend.INSTRUCTION_SET}
    given = {**inherited, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, timeout=100)
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("name", ["", *SETS])
def test_the_environment_chooses_at_the_start(name):
    chosen = {backend.INSTRUCTION_SET: name} if name else {}
    out, errors = python("from kalnorm_ref import backend; print(backend.instruction_set())", **chosen)
    assert (out, errors) == (name or SETS[-1], "")


def test_a_wrong_choice_in_the_environment_is_said_at_the_start():
    out, errors = python("import kalnorm_ref", **{backend.INSTRUCTION_SET: "sse9"})
    expected = f"ValueError: instruction set is 'sse9'; expected one of {', '.join(SETS)}"
    assert out == "" and errors.splitlines()[-1] == expected


# ---- threads -------------------------------------------------------------------------------------------------------


NORMS = [("bn", 2), ("brn", 2), ("kn-learned", 2), ("kn-analytic", 2), ("kn-released", 2), ("bn", None)]


@pytest.mark.parametrize(("norm", "of_batch"), NORMS)
def test_training_gives_the_same_bits_at_any_number_of_threads(norm, of_batch, monkeypatch):
    """Twenty steps of SGD: parameters, running averages and logits."""
    found = set()
    for threads in (1, 2, 4):
        monkeypatch.setattr(backend, "_num_threads", threads)
        found.add(digest(trained(norm, of_batch)))
    assert len(found) == 1


def trained(norm, of_batch, steps=20):
    rng = np.random.default_rng(11)
    with kr.use_backend("cython"):
        net = kr.models.resnet(8, norm, statistics_batch_size=of_batch, seed=3)
        optimizer = kr.SGD(net, lr=0.05)
        for _ in range(steps):
            x, labels = rng.normal(0.3, 1.2, (8, 32, 32, 3)).astype(np.float32), rng.integers(0, 10, 8)
            logits = net.forward(x, training=True)
            net.backward(kr.cross_entropy(logits, labels)[1])
            optimizer.step()
    return *net.state().values(), logits


def digest(results):
    """Of the bits of all arrays."""
    assert all(np.isfinite(a).all() for a in leaves(results))
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in leaves(results))).hexdigest()


# ---- what would end the process ------------------------------------------------------------------------------------

WITHOUT_CHANNELS = """
import numpy as np
from kalnorm_ref.convolution import conv2d_backward, conv2d_forward
for c_in, c_out in ((0, 3), (3, 0), (0, 0)):
    for images in (2, 0):
        y, cache = conv2d_forward(np.ones((images, 4, 4, c_in)), np.ones((3, 3, c_in, c_out)), None, 1, 1)
        dx, dweight, _ = conv2d_backward(np.ones((images, 4, 4, c_out)), cache)
        print((y == 0).all() and dx.shape[3] == c_in and (dweight == 0).all())
"""


def test_a_convolution_without_channels():
    assert python(WITHOUT_CHANNELS) == ("\n".join(["True"] * 6), "")


# ---- memory that is not set --------------------------------------------------------------------------------------

EVERYTHING = """
import ctypes
import numpy as np
from twin_cases import Values, cases, core, run, same_bits
PERTURB, MMAP_THRESHOLD = -6, -3  # of mallopt: the byte that fills what is handed out; from which size on it does not
libc = ctypes.CDLL(None)
libc.mallopt(MMAP_THRESHOLD, 1 << 30)
def filled(byte, name, arguments):
    libc.mallopt(PERTURB, byte)
    small = [np.full(n, byte, np.uint8) for n in range(4, 1024, 4)]  # which NumPy keeps, and hands out again
    del small
    assert (np.empty(100, np.uint8) == byte).all() and (np.empty(10**5, np.uint8) == 255 - byte).all()
    return run(name, arguments, "cython")
for set_ in core.instruction_sets():
    core.use_instruction_set(set_)
    for shape in ((2, 37, 5), (300, 33), (1, 3), (6, 0)):
        for dtype in (np.float32, np.float64):
            for name, arguments in cases(Values(shape, dtype=dtype)):
                if not same_bits(*(filled(byte, name, arguments) for byte in (85, 190))):
                    print(name, set_, shape, dtype.__name__)
"""


def test_no_result_depends_on_what_memory_held_before():
    """The C library fills what it hands out with one byte or another."""
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("memory is filled by mallopt, of the GNU C library")
    assert python(EVERYTHING) == ("", "")
