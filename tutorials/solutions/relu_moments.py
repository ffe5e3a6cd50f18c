"""Mean and variance of max(z, 0) for z ~ N(mean, var) (C1).

Write z = m + s n with n ~ N(0, 1). It is positive where n > -t, t = m/s. Here phi and Phi are the
density and the distribution function of N(0, 1) at t, and Q = 1 - Phi. Since phi' = -n phi, the
integrals of phi, n phi and n^2 phi from -t on are Phi, phi and Phi - t phi. Therefore

    M  = integral of (m + s n) phi   = m Phi + s phi
    E2 = integral of (m + s n)^2 phi = (m^2 + s^2) Phi + m s phi ,  V = E2 - M^2

E2 - M^2 cancels where m is large beside s. For t >= 0 square M on paper instead: by Phi - Phi^2 =
Phi Q the large terms are gone before any number is put in (C1a). For t < 0 it is m Phi and s phi
that cancel. Over phi they are functions of Q/phi at -t, which erfcx gives to all its digits.

What goes wrong most often:

- M^2 is not subtracted, and V is the second moment;
- the integral is that of z given z > 0: the samples at zero count too;
- t is m/var;
- Phi is (1 + erf)/2, which is 0 from t = -8.3 on: the variance comes out negative.
"""

import numpy as np
from scipy.special import erfcx


def relu_moments(mean, var):
    s = np.sqrt(var)
    t = mean / np.maximum(s, 1e-30)  # at var = 0 the result is max(mean, 0) and 0
    x = np.minimum(np.abs(t), 38)  # phi is 0 beyond
    phi = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    mills = np.sqrt(np.pi / 2) * erfcx(x / np.sqrt(2))  # Q/phi at |t|
    q = phi * mills
    spread = 1 - q + x**2 * q * (1 - q) - x * phi * (1 - 2 * q) - phi**2
    above = mean * (1 - q) + s * phi, var * spread
    first, second = phi * (1 - x * mills), phi * ((x**2 + 1) * mills - x)
    below = s * first, var * (second - first**2)
    return tuple(np.where(t >= 0, a, b) for a, b in zip(above, below, strict=True))
