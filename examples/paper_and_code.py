"""Measures every number of docs/paper_and_code.md: where the paper, the authors' code and a Kalman filter part ways.

    python examples/paper_and_code.py

prints the tables of that page, in its order; about ten seconds. Seeds are fixed. A bound (< or >) stands where digits
would depend on the machine.
"""

from differences import computation, estimate, network

TABLES = (
    computation.parameters,
    computation.linear_transition,
    computation.covariance,
    computation.scale,
    computation.ratios,
    computation.memory,
    computation.accuracy,
    computation.guard,
    network.shortcut,
    network.first_block,
    network.concatenated,
    network.pooling,
    network.running_averages,
    network.sampling,
    network.same_padding,
    network.first_normalizer,
    network.first_gradient,
    estimate.virtual_samples,
    estimate.posterior,
    estimate.mixture,
    estimate.noise,
    estimate.noise_parameters,
    estimate.one_image,
)


def lines(head, rows):
    """A table in Markdown."""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for label, *cells in rows:
        yield f"| {' | '.join([label, *(form.format(value) for form, value in cells)])} |"


def main():
    for measure in TABLES:
        print(*lines(*measure()), "", sep="\n")


if __name__ == "__main__":
    main()
