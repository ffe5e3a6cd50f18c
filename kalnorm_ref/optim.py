"""Stochastic gradient descent and the schedules that go with it: plain functions of the step.

    g = grad + weight_decay w ;  v <- momentum v + g ;  w <- w - lr v                                        (D1)

Weight decay acts on the weights of convolutions and linear layers alone; gamma, beta, biases and the Kalman parameters
have none.
"""

import math

import numpy as np

from . import _arguments, backend


class SGD:
    """Stochastic gradient descent with momentum, on the live parameters of a network.

    Equations: (D1), at the head of this file; with clip_norm, all gradients are first multiplied by
        min(1, clip_norm / ||g||), where ||g|| is the Euclidean norm over all parameters together.
    Attributes: lr, which a schedule may set before each step.
    Departs: PyTorch decays every parameter that it is given; here `decayed` names the ones that are.
    """

    def __init__(self, net, lr=0.1, momentum=0.9, weight_decay=1e-4, clip_norm=None):
        self.net = net
        self.lr = _arguments.number("lr", lr, 0)
        self.momentum = _arguments.number("momentum", momentum, 0, 1, "a value in [0, 1]")
        self.weight_decay = _arguments.number("weight_decay", weight_decay, 0)
        self.clip_norm = None if clip_norm is None else _arguments.number("clip_norm", clip_norm, 0)
        self.velocity = {path: np.zeros_like(p) for path, p in net.params.items()}
        self.decays = [self.decayed(path) for path in self.velocity]

    @staticmethod
    def decayed(path):
        """Whether weight decay acts on this parameter: on the ones called `weight`, of Conv2d and Linear."""
        return path.rpartition(".")[2] == "weight"

    def step(self):
        """Update every parameter once, in place, from the gradients of the last backward."""
        scale = 1.0
        if self.clip_norm is not None:
            scale = min(1.0, self.clip_norm / max(gradient_norm(self.net.grads), np.finfo(float).tiny))
        params, decays = self.net.params, [self.weight_decay * decayed for decayed in self.decays]
        for (path, v), w in zip(self.velocity.items(), params.values(), strict=True):
            if v.shape != w.shape:  # the first batch gave an mlp's first weight another size
                self.velocity[path] = np.zeros_like(w)
        slots = list(zip(params.values(), self.net.grads.values(), self.velocity.values(), decays, strict=True))
        for slot in backend.sgd_updates(slots, self.lr, self.momentum, scale):
            update(*slot, self.lr, self.momentum, scale)

    def state_dict(self):
        """What exact resumption needs: copies of the velocities, by path."""
        return {path: v.copy() for path, v in self.velocity.items()}

    def load_state_dict(self, state):
        """Take up the velocities of state_dict(); ValueError if a path or a shape differs."""
        for path in state:
            if path not in self.velocity:
                raise ValueError(f"the optimizer's state has a velocity for {path}, which the network does not have")
        for path, v in self.velocity.items():
            if path not in state or np.shape(state[path]) != v.shape:
                raise ValueError(f"the optimizer's state has no velocity of shape {v.shape} for {path}")
        for path, v in self.velocity.items():
            v[...] = state[path]


def update(w, grad, v, decay, lr, momentum, scale):
    """One step of (D1) in place: w and v change; grad is multiplied by scale. The compiled one does it in one pass."""
    number = w.dtype.type
    v *= number(momentum)
    v += number(scale) * grad + number(decay) * w
    w -= number(lr) * v


def gradient_norm(grads):
    """Euclidean norm over all gradients together."""
    return math.sqrt(sum(float(np.vdot(g, g).real) for g in grads.values()))


def constant(lr):
    """Learning rate lr at every step."""
    return lambda step: lr


def step_decay(lr, boundaries, factor=0.1):
    """lr times factor^k, where k is the number of boundaries (in steps) that have been reached."""
    return lambda step: lr * factor ** sum(step >= b for b in boundaries)


def cosine(lr, steps, warmup=0):
    """Linear warm-up to lr over `warmup` steps, then half a cosine down to 0 at `steps`.

    Equations: lr (t + 1) / warmup for t < warmup ; else lr/2 (1 + cos(pi (t - warmup) / (steps - warmup))).
    Reference: Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts.
    """

    def at(step):
        if step < warmup:
            return lr * (step + 1) / warmup
        return lr / 2 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return at


def renorm_schedule(start, r_end, d_end, r_max=3.0, d_max=5.0):
    """The limits of batch renormalization as functions of the step: (r_max, d_max).

    Equations: 1 and 0 (plain batch normalization) up to step `start`, then linearly to r_max at step r_end and to d_max
        at step d_end (A11).
    Reference: Ioffe 2017, arXiv 1702.03275, section 4: 5,000, 40,000 and 25,000 steps, r_max 3, d_max 5.
    """

    def ramp(low, high, end):
        return lambda step: low + (high - low) * min(1.0, max(0.0, (step - start) / max(1, end - start)))

    return ramp(1.0, r_max, r_end), ramp(0.0, d_max, d_end)
