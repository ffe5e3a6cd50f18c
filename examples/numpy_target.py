"""The smallest complete target: batch normalization in NumPy, as the conformance kit wants it brought.

    kalnorm-ref verify examples.numpy_target:BatchNorm

The kit makes one target for each case, sets its running values, calls forward, then backward, and reads the running
values. What `capabilities` leaves out is skipped. A kernel of your own goes where the two formulas are; what a target
returns may be anything with __dlpack__, a tensor on a GPU included.
"""

import numpy as np


class BatchNorm:
    capabilities = frozenset(
        {"bn.train", "bn.eval", "bn.backward", "bn.state"}  # what it computes
        | {"float64", "float32"}  # types of x; bfloat16 and float16 are the other two
        | {"NC", "NLC", "NHWC", "NDHWC", "padded", "reversed"}  # layouts and strides
    )

    def __init__(self, case):
        self.eps = case.params["eps"]
        self.decay = case.params.get("decay")  # the weight of the old running value; None: cumulative average

    def set_state(self, state):
        self.state, self.updates = dict(state), 0

    def get_state(self):
        return self.state

    @np.errstate(all="ignore")  # some cases overflow in one channel, on purpose
    def forward(self, tensors, training):
        x, gamma, beta = (tensors.get(name) for name in ("x", "gamma", "beta"))  # absent ones count as 1 and 0
        self.training, self.over = training, tuple(range(x.ndim - 1))
        mean, var = self.state["running_mean"], self.state["running_var"]
        if training:
            if x.size == 0:
                raise ValueError(f"x has shape {x.shape}; expected at least one sample")
            mean = x.mean(self.over)
            var = ((x - mean) ** 2).mean(self.over)  # in two passes: E[x^2] - E[x]^2 cancels
            self.update(running_mean=mean, running_var=var)
        self.rstd, self.gamma, self.has_beta = 1 / np.sqrt(var + x.dtype.type(self.eps)), gamma, beta is not None
        self.x_hat = (x - mean) * self.rstd
        return {"y": self.x_hat * (1 if gamma is None else gamma) + (0 if beta is None else beta)}

    def update(self, **statistics):
        decay = self.updates / (self.updates + 1) if self.decay is None else self.decay
        self.updates += 1
        self.state = {name: decay * self.state[name] + (1 - decay) * new for name, new in statistics.items()}

    @np.errstate(all="ignore")
    def backward(self, dy):
        g = dy if self.gamma is None else dy * self.gamma
        gradients = {"dx": g * self.rstd}
        if self.training:
            projection = self.x_hat * (g * self.x_hat).mean(self.over)
            gradients["dx"] = self.rstd * (g - g.mean(self.over) - projection)
        if self.gamma is not None:
            gradients["dgamma"] = (dy * self.x_hat).sum(self.over)
        if self.has_beta:
            gradients["dbeta"] = dy.sum(self.over)
        return gradients
