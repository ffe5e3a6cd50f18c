"""The names of the tensors of each operation: what forward and backward are given, what they return, and the state."""

from .case import OPS

PRIOR = ("previous_mean", "previous_var", "transition", "noise", "gain")
ESTIMATE = ("estimate_mean", "estimate_var")
FORWARD = {op: ("x", "gamma", "beta", *(PRIOR if op in ("kn", "gkn") else ())) for op in OPS}
BACKWARD = {op: ("dy", *(f"d{name}" for name in ESTIMATE if op in ("kn", "gkn"))) for op in OPS}
STATE = {
    "bn": ("running_mean", "running_var"),
    "brn": ("running_mean", "running_std"),
    "kn": ("running_mean", "running_var"),
    "gn": (),
    "gkn": (),
}
STATISTICS = {
    "bn": ("mean", "var", "rstd"),
    "brn": ("mean", "var", "rstd", "corr_r", "corr_d"),
    "kn": ESTIMATE,
    "gn": (),
    "gkn": ESTIMATE,
}
RETURNED = {op: ("y", *STATISTICS[op], *(f"d{name}" for name in FORWARD[op]), *STATE[op]) for op in OPS}
