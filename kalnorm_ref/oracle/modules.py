"""A torch.nn.Module as a target. PyTorch is no dependency: it is imported when somebody brings a module.

    from_module(torch.nn.BatchNorm2d)         a class: made anew for each case; your own is called with the channels
    from_module(torch.nn.BatchNorm2d(64))     a module: asked the cases with its number of channels and its eps
    from_module(make)                         make(case) -> a module, or a text: why it is not asked this case

What a module computes shows in its attributes: `num_groups` is group normalization, `running_std` batch
renormalization, `gain` Kalman normalization, and everything else batch normalization. It is called with channels in
axis 1, as PyTorch has them; a Kalman normalizer as module(x, previous) -> y, (mean, var), where previous is (mean, var)
or None. Written into it, where it has them: weight or gamma, bias or beta, transition, noise, gain; running_mean,
running_var, running_std, num_batches_tracked (0); eps, momentum (1 - decay, None: cumulative), r_max, d_max, and
statistics_batch_size, the number of images that share statistics. PyTorch's own declare their conventions by
themselves; another module names them in an attribute `conventions`.

x and dy have the type of the case, parameters are float32, or float64 where x is. With channels last x is what
x.to(memory_format=torch.channels_last) gives; "padded" has NaN between its rows. PyTorch has no negative strides.
"""

import copy

import numpy as np

from .arrays import returned
from .case import UNITS, channel_axis
from .target import TargetError

NAMES = {"gamma": ("weight", "gamma"), "beta": ("bias", "beta")}  # of the protocol, and of a module
PARAMETERS = {**NAMES, "transition": ("transition",), "noise": ("noise",), "gain": ("gain",)}
STATE = ("running_mean", "running_var", "running_std")
LAYOUTS = {1: ("NC", "NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
EVERY_LAYOUT = {name for names in LAYOUTS.values() for name in names}


def from_module(found, device="cpu"):
    """A factory of targets for a module, a class or a function of a case (see above); device: where it computes."""
    try:
        import torch
    except ImportError as error:
        raise TargetError(f"a module is PyTorch's, which cannot be imported: {error}") from error
    if not callable(found):
        raise TargetError(f"module is {type(found).__name__}; expected a torch.nn.Module or a function that makes one")
    make, layouts = _maker(found, torch)

    def factory(case):
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            return Refusal("PyTorch sees no CUDA device here")
        made = make(case)
        if isinstance(made, torch.nn.modules.batchnorm._BatchNorm) and case.training and case.params["eps"] == 0:
            made = "PyTorch's batch normalization takes no eps of 0 in training"
        return Refusal(made) if isinstance(made, str) else ModuleTarget(case, made, layouts, device)

    factory.__name__ = getattr(found, "__name__", type(found).__name__)
    return factory


class Refusal:
    """A target that is not asked this case, with the reason."""

    def __init__(self, reason):
        self.refuses = reason


def _maker(found, torch):
    """A function of a case that returns a module or the reason why there is none; and the layouts that it knows."""
    nn = torch.nn
    kind = found if isinstance(found, type) else type(found)
    dimensions = {nn.BatchNorm1d: 1, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3}
    layouts = next((LAYOUTS[n] for base, n in dimensions.items() if issubclass(kind, base)), EVERY_LAYOUT)
    if isinstance(found, nn.Module):
        return lambda case: _differs(found, case) or copy.deepcopy(found), layouts
    if not issubclass(kind, nn.Module):
        return found, layouts

    def anew(case):
        options = {"eps": case.params["eps"], "affine": not case.tensors.keys().isdisjoint(NAMES)}
        if issubclass(kind, nn.GroupNorm):
            groups = case.params.get("groups")
            return kind(groups, case.channels, **options) if groups else "it has groups, the case none"
        return kind(case.channels, **(options if issubclass(kind, nn.modules.batchnorm._BatchNorm) else {}))

    return anew, layouts


def _differs(module, case):
    """Why a module that somebody made is not asked a case; None if it is."""
    channels = getattr(module, "num_features", getattr(module, "num_channels", None))
    had = {"channels": channels, "eps": module.eps, "groups": getattr(module, "num_groups", None)}
    wanted = {"channels": case.channels, "eps": case.params["eps"], "groups": case.params.get("groups")}
    for name in had:
        if had[name] != wanted[name]:
            return f"the module has {name} {had[name]}, the case {wanted[name]}"
    if not getattr(module, "affine", True) and not case.tensors.keys().isdisjoint(NAMES):
        return "the module is not affine, the case is"
    return None


class ModuleTarget:
    """A module with what a case gives it written into it; gradients come from autograd."""

    def __init__(self, case, module, layouts, device):
        import torch

        self.torch, self.case = torch, case
        self.float = torch.float64 if case.dtype == "float64" else torch.float32
        self.module = module.to(device=device, dtype=self.float)
        self.device = device
        self.capabilities = {*_operations(module), *layouts, *UNITS, "padded"}
        if hasattr(module, "statistics_batch_size"):
            self.capabilities.add("statistics_batches")
            module.statistics_batch_size = len(case.tensors["x"]) // case.batches
        self.conventions = _conventions(module, torch)
        decay = case.params.get("decay")
        options = {"eps": case.params["eps"], "momentum": None if decay is None else 1 - decay}
        options |= {name: case.params[name] for name in ("r_max", "d_max") if name in case.params}
        for name, value in options.items():
            if hasattr(module, name):
                setattr(module, name, value)

    def set_state(self, state):
        with self.torch.no_grad():
            for name, a in state.items():
                getattr(self.module, name).copy_(self.tensor(a, self.float))
            if getattr(self.module, "num_batches_tracked", None) is not None:
                self.module.num_batches_tracked.zero_()

    def get_state(self):
        return {name: getattr(self.module, name).clone() for name in self.case.state}

    def forward(self, tensors, training):
        module = self.module.train(training)
        x = self.tensor(tensors["x"], getattr(self.torch, self.case.dtype)).requires_grad_()
        self.given, self.leaves = [(tensors["x"], x)], {"x": x}
        for name in PARAMETERS:
            self.write(name, tensors.get(name))
        previous = None
        if "previous_mean" in tensors:
            previous = tuple(self.tensor(tensors[f"previous_{name}"], self.float) for name in ("mean", "var"))
            self.leaves |= {f"previous_{n}": a.requires_grad_() for n, a in zip(("mean", "var"), previous, strict=True)}
        axis = channel_axis(self.case.layout)
        x = x.movedim(axis, 1)
        if self.case.op in ("kn", "gkn"):
            y, estimate = module(x, previous)
            outputs = dict(zip(("estimate_mean", "estimate_var"), estimate, strict=True))
        else:
            y, outputs = module(x), {}
        self.outputs = {"y": y.movedim(1, axis), **outputs}
        self.write_back()
        return {name: a.detach() for name, a in self.outputs.items()}

    def backward(self, dy, **upstream):
        y = self.outputs.pop("y")
        given = self.tensor(dy, getattr(self.torch, self.case.dtype))
        self.given.append((dy, given))
        into = [name for name, a in self.outputs.items() if f"d{name}" in upstream and a.requires_grad]
        into = {name: self.tensor(upstream[f"d{name}"], self.float).reshape(self.outputs[name].shape) for name in into}
        outputs, gradients = [y, *(self.outputs[name] for name in into)], [given.to(y.dtype), *into.values()]
        found = self.torch.autograd.grad(outputs, list(self.leaves.values()), gradients, materialize_grads=True)
        self.write_back()
        return {f"d{name}": a for name, a in zip(self.leaves, found, strict=True)}

    def write(self, name, a):
        """A tensor of the case as the parameter that the module has for it; an absent gamma is 1, an absent beta 0."""
        attribute = next((attribute for attribute in PARAMETERS[name] if hasattr(self.module, attribute)), None)
        if a is not None:
            if attribute is None:
                names = " or ".join(PARAMETERS[name])
                raise TypeError(f"{type(self.module).__name__} has no {names}, of which the case has values")
            self.leaves[name] = self.torch.nn.Parameter(self.tensor(a, self.float))
            setattr(self.module, attribute, self.leaves[name])
        elif name in NAMES and getattr(self.module, attribute or "", None) is not None:
            with self.torch.no_grad():
                getattr(self.module, attribute).fill_(name == "gamma")

    def tensor(self, a, dtype):
        """An array as a tensor of its own, with the same strides, and NaN in the gaps."""
        a = np.asarray(a)
        strides = [n // a.itemsize for n in a.strides]
        size = 1 + sum((n - 1) * stride for n, stride in zip(a.shape, strides, strict=True))
        room = self.torch.full((max(1, size),), self.torch.nan, dtype=dtype, device=self.device)
        return room.as_strided(a.shape, strides).copy_(self.torch.from_numpy(np.array(a, np.float64)))

    def write_back(self):
        """What the module made of its inputs, into the arrays of the caller, who looks whether they changed."""
        for a, t in self.given:
            values, _ = returned(t)
            if not np.array_equal(values, a.astype(np.float64), equal_nan=True):
                a[...] = values


def _operations(module):
    """The operations that a module computes, as capabilities."""
    grouped = hasattr(module, "num_groups")
    op = "gn" if grouped else "brn" if hasattr(module, "running_std") else "bn"
    if hasattr(module, "gain"):
        op = "gkn" if grouped else "kn"
    found = {f"{op}.{name}" for name in ("train", "backward")}
    tracked = [name for name in STATE if getattr(module, name, None) is not None]
    if grouped or len(tracked) == 2:
        found.add(f"{op}.eval")
    if len(tracked) == 2:
        found.add(f"{op}.state")
    return found


def _conventions(module, torch):
    ours = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    return tuple(getattr(module, "conventions", ("running-var-unbiased", "one-value-error") if ours else ()))
