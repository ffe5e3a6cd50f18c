"""Numbers with a bound on their error: how the rounding of an honest implementation runs through the steps.

    a + b    ea + eb + r |a + b|        a b      |a| eb + |b| ea + r |a b|         r = 2u: any two correct operations
    a / b    (ea + |a/b| eb)/(|b| - eb) + r |a/b|          sum a_i    sum e_i + C u sum |a_i|
    v^(1/2)  e / (v^(1/2) + max(v - e, 0)^(1/2)) + r v^(1/2)

Arrays without a bound are exact: inputs.
"""

import numpy as np


class Bounded:
    """Values and a bound on the error of each; `u` is the unit roundoff of the type that computes."""

    __array_ufunc__ = None  # an array on the left asks this class
    __slots__ = ("error", "u", "value")

    def __init__(self, value, error, u):
        self.value, self.error, self.u = value, np.broadcast_to(error, np.shape(value)), u

    def _rounded(self, value, error):
        return Bounded(value, error + 2 * self.u * np.abs(value), self.u)

    def __add__(self, other):
        b, eb = parts(other)
        return self._rounded(self.value + b, self.error + eb)

    def __neg__(self):
        return Bounded(-self.value, self.error, self.u)

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __mul__(self, other):
        b, eb = parts(other)
        return self._rounded(self.value * b, np.abs(self.value) * eb + np.abs(b) * self.error + self.error * eb)

    def __truediv__(self, other):
        b, eb = parts(other)
        quotient = self.value / b
        return self._rounded(quotient, (self.error + np.abs(quotient) * eb) / np.maximum(np.abs(b) - eb, 1e-300))

    def __rtruediv__(self, other):
        return Bounded(other, 0.0, self.u) / self

    def __pow__(self, exponent):
        if exponent != 2:
            raise ValueError(f"exponent is {exponent}; expected 2")
        return self * self

    def __matmul__(self, other):
        """With an exact matrix: sums along the last axis."""
        b, eb = parts(other)
        size, through = np.abs(self.value) @ np.abs(b), np.abs(self.value) @ np.broadcast_to(eb, b.shape)
        return Bounded(self.value @ b, self.error @ np.abs(b) + through + 8 * self.u * size, self.u)

    def __rmatmul__(self, other):
        return (self.T @ other.T).T

    __radd__, __rmul__ = __add__, __mul__

    @property
    def T(self):
        return self.apply(lambda a: a.T)

    @property
    def shape(self):
        return self.value.shape

    def apply(self, f):
        """A rearrangement of the elements."""
        return Bounded(f(self.value), f(self.error), self.u)

    def reshape(self, *shape):
        return self.apply(lambda a: a.reshape(*shape))

    def __getitem__(self, index):
        return self.apply(lambda a: a[index])


def parts(a):
    """Value and error of anything."""
    return (a.value, a.error) if isinstance(a, Bounded) else (a, 0.0)


def square_root(a):
    """Of a Bounded or an exact array."""
    v, e = parts(a)
    if not isinstance(a, Bounded):
        return np.sqrt(v)
    s = np.sqrt(v)
    return a._rounded(s, e / np.maximum(s + np.sqrt(np.maximum(v - e, 0)), 1e-300))


def clipped(a, low, high):
    """Clipped for certain, it is a limit, of which only the rounding is left."""
    v, e = parts(a)
    inside = np.clip(v, low, high)
    if not isinstance(a, Bounded):
        return inside
    below, above = np.clip(v - e, low, high), np.clip(v + e, low, high)
    return a._rounded(inside, np.maximum(inside - below, above - inside))
