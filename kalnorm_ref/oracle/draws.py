"""A counter-based generator for the values of the cases, the same on every machine and easy to write in any language.

    word(seed, i)    = mix(mix(seed) + i)                        64 bits, mod 2^64
    mix(z)           : z += 0x9E3779B97F4A7C15 ; z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 ;
                       z = (z ^ z >> 27) * 0x94D049BB133111EB ; z ^ z >> 31            (SplitMix64)
    normal(seed, i)  = (sum of the four 16-bit parts of word(seed, 3i), word(seed, 3i+1), word(seed, 3i+2)) / 65536 - 6
                       + 12/131072

Twelve uniform numbers added up: mean 0, variance 1 to 1e-9, never beyond 6. Nothing here rounds, so no math library can
change a bit.
"""

import zlib

import numpy as np


def mix(z):
    """SplitMix64's output for the state z, elementwise on uint64."""
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def words(seed, count):
    """word(seed, 0 .. count - 1)."""
    with np.errstate(over="ignore"):
        return mix(mix(np.array([seed], np.uint64)) + np.arange(count, dtype=np.uint64))


class Draws:
    """The draws of one case: each call takes the next seed of the row that `name` starts."""

    def __init__(self, name, seed=0):
        self.seed = seed
        self.next = zlib.crc32(name.encode()) * 2**20 + seed * 2**52

    def _words(self, count):
        self.next += 1
        return words(self.next % 2**64, count)

    def normal(self, *shape):
        """Standard normal but for the tails, float64."""
        size = int(np.prod(shape))
        parts = self._words(3 * size).view(np.uint16).astype(np.uint32)
        return (parts.reshape(size, 12).sum(axis=1) / 65536 - 6 + 12 / 131072).reshape(shape)

    def uniform(self, low, high, *shape):
        """Uniform in [low, high), on a grid of 2^-24 of the range."""
        size = int(np.prod(shape))
        return low + (high - low) * (self._words(size) >> np.uint64(40)).astype(np.float64).reshape(shape) / 2**24

    def integers(self, low, high, *shape):
        """Whole numbers low .. high - 1, float64."""
        size = int(np.prod(shape))
        return low + (self._words(size) % np.uint64(high - low)).astype(np.float64).reshape(shape)
