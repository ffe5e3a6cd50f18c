"""Every tolerance of the tests, each beside the largest error measured when it was set.

An error is max |a - b| / max |b| per tensor (kalnorm_ref.gradcheck.max_error) unless the line says otherwise. Loosening
one is an entry in the changelog.
"""

COMPLEX_STEP = 1e-12  # 6.6e-14, noise of the filter, a sum that cancels; 1.0e-14, gain of the full covariance; 3.6e-15
CENTRAL_DIFFERENCE = 5e-8  # 1.2e-8, group_norm; 1.0e-8, transport
LOOPS = 1e-13  # 1.3e-14, 1 - K of the filter; 4.1e-15, group_kalman_norm of one group; 6.8e-16 in kalman_norm
STAGED = 1e-13  # 7.0e-15, gain of the full covariance; 3.3e-16 in batch_norm
FLOAT32_INPUT = 5e-6  # 1.2e-6, a Kalman layer; 6.6e-7, backward of fuse: float32 arguments against the same in float64
ROUNDED_TO_FLOAT32 = 1e-7  # 5.4e-8, rounding itself: float32 gradients of the full covariance and of the filter
IDENTITY = 1e-13  # 2.9e-15, the filter's gain read off its mean; 2.4e-15, corrections in every clip regime
SEMIDEFINITE = 1e-13  # 2.8e-16, the smallest eigenvalue below 0 over the largest, full covariances of any rank
ERROR_LAW_C = 8  # the factor of the error budgets themselves; the largest error over its budget was 0.91
ERROR_LAW_VAR = 8  # 6.6, units of 2^-24 by which the variance is off next to an outlier of 73,000 sigma
FAR_FROM_ZERO = 40  # 16.9, units of 2^-24 by which dx is off at 30,000 sigma; y by 13.2
RESCALED = 1e-11  # 5.7e-14, BN of channels scaled by up to 1000 and moved by up to 100 sigma
NETWORK = 1e-10  # 4.2e-12, the bias before BN whose gradient is zero; 6.1e-14 elsewhere
TRANSPORT_LOOPS = 1e-12  # 2.1e-14, backward of leaky_relu, whose second moments cancel in the loops
RELU = 1e-12  # 2.0e-13 elementwise, t = m/s from -37 to 1e5; the promise is 1e-11 from -20
STANDARD_ERRORS = 4  # 2.3, moments after conv2d against 3000 sampled maps; 2.0, against 60 batches of 250
MAX_CONSTANTS = 1e-12  # 8.9e-16, mean and variance of the largest of 4 normal values
TWINS = 1e-12  # 3.5e-13, variance of numbers 2^30 from zero; 1.4e-13, group_norm of rows of two; 7.3e-15 elsewhere
TWINS_FLOAT32 = 5e-6  # 3.0e-6, gain of group_kalman_norm, a sum of 4500 that cancels; 2.4e-6, dbias; sums are float32
FLOAT32_CONV = 1e-6  # 2.1e-7, float32 convolution and its gradients against float64
FLOAT32_SUMS = 1e-6  # 3.6e-7, each number of a float32 convolution over the sum of the absolute values it is a sum of
BACKENDS = 1e-10  # 1.6e-12, gradients and running averages of a network with BN, NumPy against compiled
FORGOTTEN = 1e-9  # 9.2e-13, change of a belief's prior with eps 1e-12 when the data are replaced
SCALED_WEIGHTS = 1e-9  # 1.7e-13, change of the outputs with eps 1e-12 when weights are multiplied by 7 or x by 20
RELEASED_LOOPS = 1e-12  # 6.3e-15, statistics, logits and running averages of the released code, against scalar loops
