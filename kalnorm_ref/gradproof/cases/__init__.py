"""The table: every pair of the package under its name."""

from ..pairs import Pair
from . import full, group, maps, normalizers, transport

MODULES = normalizers, maps, group, full, transport
PAIRS = {pair.name: pair for module in MODULES for pair in vars(module).values() if isinstance(pair, Pair)}
