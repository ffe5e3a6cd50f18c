"""Questions at the edge of the exercise relu-moments: no variance, and far above and below 0."""

import numpy as np

from .exercise import Edge

EDGES = (
    Edge(
        {"mean": np.array([0.75, 0.0, -1.5]), "var": np.zeros(3)},
        (np.array([0.75, 0.0, 0.0]), np.zeros(3)),
        "One remark: where the variance is 0, z is a constant, and the results are not those of its image. A channel "
        "may have variance 0, and mean 0 as well.",
    ),
    Edge(
        {"mean": np.array([30000.0]), "var": np.array([0.001])},
        (np.array([30000.0]), np.array([0.001])),
        "One remark: far above 0 rectified_var loses its digits: it is a difference of two large numbers. At mean "
        "30000 and variance 0.001 fewer than six digits are right.",
    ),
    Edge(
        {"mean": np.array([-9.0]), "var": np.ones(1)},
        (np.array([1.22477918084e-20]), np.array([2.62871431947e-21])),
        "One remark: far below 0 the results lose their digits. At mean -9 and variance 1 fewer than six are right.",
    ),
)
