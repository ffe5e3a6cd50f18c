"""The command `bench`."""

from ..experiments import bench
from ..experiments.compare import to_json
from .common import add_common, command


def add(commands):
    """Add the command and its options."""
    about = "Time each normalizer, forward and backward, in both backends."
    example = "example:\n  kalnorm-ref bench --threads 1 --json\n"
    sub = command(commands, "bench", about, _prepare, "nothing was written", example)
    sub.add_argument("--repeats", type=int, default=10, help="the median of so many is printed (default: 10)")
    add_common(sub)


def _prepare(arguments):
    if arguments.repeats < 1:
        raise ValueError(f"repeats is {arguments.repeats}; expected at least 1")

    def work():
        rows = bench.bench(arguments.repeats)
        print(to_json(rows) if arguments.json else bench.table(rows))
        if not bench.compiled() and not arguments.json:
            print("the compiled backend is not built: install a C compiler and reinstall to see it here")

    return work
