"""Every tolerance of the tests, each beside the largest error measured when it was set.

An error is max |a - b| / max |b| per tensor (kalnorm_ref.gradcheck.max_error) unless the line says otherwise. Loosening
one is an entry in the changelog.
"""

COMPLEX_STEP = 1e-12  # 1.9e-15, kalman_norm
CENTRAL_DIFFERENCE = 5e-8  # 3.7e-9, standardize with one statistic for all batches
LOOPS = 1e-13  # 6.8e-16, backward of kalman_norm
STAGED = 1e-13  # 3.3e-16, batch_norm
FLOAT32_INPUT = 5e-6  # 6.6e-7, backward of fuse: gradients of float32 arguments against those of the float64 ones
IDENTITY = 1e-13  # 2.4e-15, corrections in every clip regime
ERROR_LAW_C = 8  # the factor of the error budgets themselves; the largest error over its budget was 0.18
RESCALED = 1e-11  # 5.7e-14, BN of channels scaled by up to 1000 and moved by up to 100 sigma
NETWORK = 1e-10  # 4.2e-12, the bias before BN whose gradient is zero; 6.1e-14 elsewhere
