"""Mean and variance of y = x @ weight + bias for independent inputs (C2).

    y_o     = sum_c W_co x_c + b_o
    E y_o   = sum_c W_co mu_c + b_o       for any inputs
    Var y_o = sum_c W_co^2 v_c            for uncorrelated ones

A factor W multiplies a variance by W^2; the variance of a sum is the sum of the variances where no
covariance is left; a bias shifts and does not spread.

What goes wrong most often:

- W in place of W^2: variances come out negative;
- the bias is added to the variance;
- (W^T s)^2 with the standard deviations s: the variance if all inputs were one and the same draw.
"""


def linear_moments(mean, var, weight, bias):
    return mean @ weight + bias, var @ weight**2
