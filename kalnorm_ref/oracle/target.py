"""How a normalizer is brought before the kit: the protocol, and what else is taken for a target.

A factory takes a Case and returns a target with

    capabilities                    set of "<op>.train", "<op>.eval", "<op>.backward", "<op>.state", of types (float32,
                                    bfloat16, ...), layouts (NHWC, ...), "padded", "reversed", "statistics_batches"
    conventions                     names of conventions that it declares (`kalnorm-ref list --conventions`); optional
    forward(tensors, training)      -> dict of y and more
    backward(dy, **upstream)        -> dict of dx, dgamma, ...
    get_state(), set_state(dict)    running values
    refuses                         why it is not asked this case, as a text; optional

Without a type among its capabilities it is taken to know float32 and float64, without a layout the ones with channels
last. A plain function f(x, gamma, beta, eps) -> y and a torch.nn.Module are taken too: `from_function`, and
oracle.modules.
"""

import importlib

import numpy as np

from .case import LAYOUTS, OPS, UNITS

KINDS = ("factory", "function", "module")
CHANNELS_LAST = ("NC", "NLC", "NHWC", "NDHWC")
LACKING = "the target does not list "  # begins the reason of a SKIP


class TargetError(ImportError):
    """A target that cannot be imported."""

    exit_code = 4  # of the command line


def load(name, kind="factory"):
    """A factory for "package.module:name". TargetError where there is no such module or name."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise TargetError(f"target is {name!r}; expected package.module:name")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever the module runs into
        what = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise TargetError(f"target {name!r}: cannot import {module}: {what}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise TargetError(f"target {name!r}: {module} has no {attribute}")
        found = getattr(found, part)
    return as_factory(found, kind)


def as_factory(found, kind="factory"):
    """The factory of targets for what `kind` says this is."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if kind == "factory":
        if not callable(found):
            raise TargetError(f"target is {type(found).__name__}; expected a function of a case that returns a target")
        return found
    if kind == "function":
        return from_function(found)
    from .modules import from_module  # here, because it wants PyTorch

    return from_module(found)


class FunctionTarget:
    """A bare f(x, gamma, beta, eps) -> y: batch normalization of (..., C), forward and training only."""

    capabilities = frozenset({"bn.train", "float32", "float64", *CHANNELS_LAST})
    conventions = ()

    def __init__(self, case, function):
        self.case, self.function = case, function

    def forward(self, tensors, training):
        c = self.case.channels
        gamma, beta = tensors.get("gamma"), tensors.get("beta")
        x = tensors["x"]
        gamma = np.ones(c, x.dtype) if gamma is None else gamma
        beta = np.zeros(c, x.dtype) if beta is None else beta
        return {"y": self.function(x, gamma, beta, self.case.params["eps"])}


def from_function(function):
    """A factory for f(x, gamma, beta, eps) -> y."""
    return lambda case: FunctionTarget(case, function)


def capabilities(target):
    """The capabilities of a target; what it does not speak of is taken from what it has."""
    listed = set(getattr(target, "capabilities", ()) or ())
    if not any(f"{op}." in name for name in listed for op in OPS):
        what = ["train", "eval"] if hasattr(target, "forward") else []
        what += ["backward"] if hasattr(target, "backward") else []
        what += ["state"] if hasattr(target, "set_state") and hasattr(target, "get_state") else []
        listed |= {f"{op}.{name}" for op in OPS for name in what}
    if not listed & set(UNITS):
        listed |= {"float32", "float64"}
    if not listed & set(LAYOUTS):
        listed |= set(CHANNELS_LAST)
    return listed


def why_not(case, able):
    """Why a target with these capabilities is not asked a case; None if it is."""
    needs = [f"{case.op}.{'train' if case.training else 'eval'}", case.dtype, case.layout]
    if case.view is not None:
        needs.append(case.view)
    if case.batches > 1:
        needs.append("statistics_batches")
    if case.before:
        needs.append(f"{case.op}.train")
    if case.state and (case.before or not case.training or case.op == "brn"):
        needs.append(f"{case.op}.state")
    lacking = [need for need in needs if need not in able]
    return LACKING + ", ".join(dict.fromkeys(lacking)) if lacking else None
