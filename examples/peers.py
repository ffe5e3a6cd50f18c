"""Normalizers of other packages as targets. Each package is imported when its factory is first called.

    kalnorm-ref verify examples.peers:flax_batch_norm
    kalnorm-ref verify examples.peers:keras_batch_norm
    kalnorm-ref verify examples.peers:torchrl_batch_renorm

examples/strangers.py asks all of them, and PyTorch's own, and writes docs/strangers.md.
"""

import functools
import os

import numpy as np

from kalnorm_ref.oracle.case import LAYOUTS, UNITS, channel_axis
from kalnorm_ref.oracle.modules import ModuleTarget, Refusal

EVERYTHING = ("train", "eval", "backward", "state")
os.environ.setdefault("KERAS_BACKEND", "torch")  # which Keras reads when it is imported


def wide(case):
    """The type of parameters and statistics."""
    return "float64" if case.dtype == "float64" else "float32"


# ---- Flax --------------------------------------------------------------------------------------------------------


class Flax:
    """linen.BatchNorm with its batch_stats, or linen.GroupNorm; `given` goes to the constructor."""

    def __init__(self, case, op, make, **given):
        self.capabilities = {f"{op}.{what}" for what in EVERYTHING} | {*UNITS, *LAYOUTS, "padded", "reversed"}
        given |= {"use_scale": "gamma" in case.tensors, "use_bias": "beta" in case.tensors}
        self.case, self.stats = case, {}
        types = {"dtype": case.dtype, "param_dtype": wide(case)}
        self.make = functools.partial(make, epsilon=case.params["eps"], **types, **given)

    def set_state(self, state):
        import jax.numpy as jnp

        self.stats = {name.removeprefix("running_"): jnp.asarray(a, wide(self.case)) for name, a in state.items()}

    def get_state(self):
        return {f"running_{name}": a for name, a in self.stats.items()}

    def forward(self, tensors, training):
        import jax
        import jax.numpy as jnp

        names = {"gamma": "scale", "beta": "bias"}
        params = {names[name]: jnp.asarray(tensors[name], wide(self.case)) for name in names if name in tensors}
        module = self.make(use_running_average=not training) if self.stats else self.make()
        stats = {"batch_stats": self.stats} if self.stats else {}

        def f(x, params):
            return module.apply({"params": params, **stats}, x, mutable=["batch_stats"] if training else [])

        y, self.vjp, changed = jax.vjp(f, jnp.asarray(tensors["x"], self.case.dtype), params, has_aux=True)
        self.stats = dict(changed.get("batch_stats", self.stats))
        self.type = y.dtype
        return {"y": y}

    def backward(self, dy):
        import jax.numpy as jnp

        dx, params = self.vjp(jnp.asarray(dy, self.type))
        return {"dx": dx, "dgamma": params.get("scale"), "dbeta": params.get("bias")}


def linen():
    """flax.linen, with float64 in JAX."""
    import jax
    from flax import linen as found

    jax.config.update("jax_enable_x64", True)
    return found


def flax_batch_norm(case, **options):
    make = linen().BatchNorm
    if case.op != "bn":
        return Refusal(f"linen.BatchNorm is no {case.op}")
    if case.params["decay"] is None:
        return Refusal("linen.BatchNorm has no cumulative average")
    return Flax(case, "bn", make, momentum=case.params["decay"], axis=channel_axis(case.layout), **options)


def flax_batch_norm_two_pass(case):
    return flax_batch_norm(case, use_fast_variance=False)


def flax_group_norm(case, **options):
    make = linen().GroupNorm
    if case.op != "gn":
        return Refusal(f"linen.GroupNorm is no {case.op}")
    if case.layout[-1] != "C":
        return Refusal("linen.GroupNorm wants channels last")
    return Flax(case, "gn", make, num_groups=case.params["groups"], **options)


def flax_group_norm_two_pass(case):
    return flax_group_norm(case, use_fast_variance=False)


# ---- Keras, computed by PyTorch ----------------------------------------------------------------------------------


class Keras:
    """keras.layers.BatchNormalization, also with renorm=True; autograd does the backward."""

    def __init__(self, case):
        import keras

        if keras.backend.backend() != "torch":
            raise RuntimeError(f"KERAS_BACKEND is {keras.backend.backend()}; expected torch")
        p, renorm = case.params, case.op == "brn"
        self.capabilities = {f"{case.op}.{what}" for what in EVERYTHING} | {*UNITS, *LAYOUTS, "padded"}
        policy = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}.get(case.dtype, case.dtype)
        given = {"axis": channel_axis(case.layout), "momentum": p["decay"], "epsilon": p["eps"], "dtype": policy}
        if renorm:
            limits = {"rmin": 1 / p["r_max"], "rmax": p["r_max"], "dmax": p["d_max"]}
            given |= {"renorm": True, "renorm_momentum": p["decay"], "renorm_clipping": limits}
        affine = {"scale": "gamma" in case.tensors, "center": "beta" in case.tensors}
        self.case, self.layer = case, keras.layers.BatchNormalization(**given, **affine)
        self.layer.build(case.tensors["x"].shape)
        self.names = {"running_mean": ["moving_mean"], "running_var": ["moving_variance"]}
        if renorm:
            self.names["running_mean"].insert(0, "renorm_mean")
            self.names["running_std"] = ["renorm_stddev", "moving_stddev"]

    def set_state(self, state):
        for name, a in state.items():
            for ours in self.names[name]:
                getattr(self.layer, ours).assign(a)
        if "running_std" in state:
            self.layer.moving_variance.assign(np.asarray(state["running_std"], float) ** 2 - self.case.params["eps"])

    def get_state(self):
        return {name: getattr(self.layer, self.names[name][0]).value.detach().clone() for name in self.case.state}

    def forward(self, tensors, training):
        import torch

        x = torch.tensor(np.asarray(tensors["x"], np.float64)).to(getattr(torch, self.case.dtype)).requires_grad_()
        self.leaves = {"x": x}
        for name in ("gamma", "beta"):
            if name in tensors:
                variable = getattr(self.layer, name)
                variable.assign(tensors[name])
                self.leaves[name] = variable.value
        self.y = self.layer(x, training=training)
        return {"y": self.y.detach()}

    def backward(self, dy):
        import torch

        dy = torch.tensor(np.asarray(dy, np.float64)).to(self.y.dtype)
        found = torch.autograd.grad(self.y, list(self.leaves.values()), dy)
        return {f"d{name}": a for name, a in zip(self.leaves, found, strict=True)}


def keras_batch_norm(case):
    return _keras(case, "bn")


def keras_batch_renorm(case):
    return _keras(case, "brn")


def _keras(case, op):
    if case.op != op:
        return Refusal(f"asked for {op}, not {case.op}")
    if case.params["decay"] is None:
        return Refusal("Keras has no cumulative average")
    return Refusal("Keras takes float64 for float32 in this layer") if case.dtype == "float64" else Keras(case)


# ---- TorchRL -----------------------------------------------------------------------------------------------------


class TorchRL(ModuleTarget):
    """BatchRenorm1d after its warm-up. It keeps an unbiased running variance in the place of the std: not judged."""

    def __init__(self, case, warmup_steps):
        from torchrl.modules import BatchRenorm1d

        p = case.params
        limits = {"max_r": p["r_max"], "max_d": p["d_max"], "warmup_steps": warmup_steps}
        super().__init__(case, BatchRenorm1d(case.channels, **limits), LAYOUTS, "cpu")
        self.capabilities = {f"brn.{what}" for what in EVERYTHING} | {*UNITS, *LAYOUTS, "padded"}

    def set_state(self, state):
        var = np.asarray(state["running_std"], float) ** 2 - self.case.params["eps"]
        super().set_state({"running_mean": state["running_mean"], "running_var": var})
        self.module.num_batches_tracked.fill_(self.module.warmup_steps)

    def get_state(self):
        return {"running_mean": self.module.running_mean.clone()}


def torchrl_batch_renorm(case, warmup_steps=0):
    if case.op != "brn":
        return Refusal(f"asked for brn, not {case.op}")
    if case.params["decay"] is None:
        return Refusal("BatchRenorm1d has no cumulative average")
    if case.before and case.params["decay"] < 1:
        return Refusal("its running variance is unbiased: after a step r and d differ")
    return TorchRL(case, warmup_steps)


def torchrl_batch_renorm_warmed_up(case):
    return torchrl_batch_renorm(case, warmup_steps=1)
