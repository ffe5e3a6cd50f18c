"""Batch renormalization and Kalman normalization as plain PyTorch modules, to be copied into a project.

    kalnorm-ref verify examples.torch_modules:batch_renorm
    kalnorm-ref verify examples.torch_modules:kalman_norm

Ordinary autograd does the backward, on any device. Channels are in axis 1: (N, C), (N, C, L), (N, C, H, W), ... The
end of the file is for the commands above; a copy leaves it out.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize


class Normalizer(nn.Module):
    """Scale, shift and running values; statistics_batch_size consecutive images share statistics (None: all of them).

    Computes in the type of its parameters, float32 say, whatever x has. momentum is the weight of the new value in the
    running values, None for their cumulative average.
    """

    def __init__(self, channels, eps=1e-5, momentum=0.1, statistics_batch_size=None, spread="running_var"):
        super().__init__()
        self.eps, self.momentum, self.statistics_batch_size = eps, momentum, statistics_batch_size
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer(spread, torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def batches(self, x):
        """x as (B, images, C, positions), and the mean and biased variance (B, C) of each statistics batch."""
        if x.numel() == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one image")
        images = len(x) if self.statistics_batch_size is None else self.statistics_batch_size
        x = x.to(self.weight.dtype).reshape(-1, images, x.shape[1], x[0, 0].numel())
        var, mean = torch.var_mean(x, dim=(1, 3), correction=0)
        return x, mean, var

    @torch.no_grad()
    def track(self, **statistics):
        """One update of the running values, with the mean over the statistics batches."""
        self.num_batches_tracked += 1
        weight = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        for name, new in statistics.items():
            old = getattr(self, name)
            old.copy_((1 - weight) * old + weight * new.mean(0))

    def affine(self, x_hat, x):
        """The output for x_hat (B, images, C, positions), in the shape and type of x."""
        return (x_hat * per_channel(self.weight) + per_channel(self.bias)).reshape(x.shape).to(x.dtype)

    def fixed(self, x, mean, std):
        """The output with given statistics (C,): inference."""
        x_hat = x.to(mean.dtype).reshape(1, len(x), len(mean), x.shape[2:].numel()) - per_channel(mean)
        return self.affine(x_hat / per_channel(std), x)


def per_channel(a):
    """(C,) or (B, C) against (B, images, C, positions)."""
    return a[..., None, :, None]


class BatchRenorm(Normalizer):
    """Batch renormalization, Ioffe 2017 (arXiv 1702.03275). The running std contains eps.

    r_max and d_max start at 1 and 0 and grow during training: assign to them.
    """

    def __init__(self, channels, r_max=1.0, d_max=0.0, momentum=0.01, **options):
        super().__init__(channels, momentum=momentum, **options, spread="running_std")
        self.r_max, self.d_max = r_max, d_max

    def forward(self, x):
        if not self.training:
            return self.fixed(x, self.running_mean, self.running_std)
        z, mean, var = self.batches(x)
        std = (var + self.eps).sqrt()
        with torch.no_grad():  # r and d are constants to the gradient, from the running values before their update
            r = (std / self.running_std).clamp(1 / self.r_max, self.r_max)
            d = ((mean - self.running_mean) / self.running_std).clamp(-self.d_max, self.d_max)
        self.track(running_mean=mean, running_std=std)
        z = (z - per_channel(mean)) / per_channel(std)
        return self.affine(z * per_channel(r) + per_channel(d), x)


class KalmanNorm(Normalizer):
    """Batch Kalman normalization, Wang et al. 2018 (arXiv 1802.03133), with the diagonal of the covariance.

    It takes and returns an estimate, (mean, var), which the network carries from one normalizer to the next:

        h, estimate = norm1(conv1(x))                      norm1 = KalmanNorm(16): the first has no prior
        h, estimate = norm2(conv2(relu(h)), estimate)      norm2 = trainable(KalmanNorm(32, 16))

    transition (C, C') or (C,), noise (a variance) and gain (in [0, 1]), a number or (C,), are parameters as they are;
    `trainable` keeps noise and gain within their bounds. In inference the estimate is the running one.
    """

    def __init__(self, channels, previous=None, gain=0.95, noise=0.1, **options):
        super().__init__(channels, **options)
        self.transition = self.noise = self.gain = None
        if previous is not None:
            alike = torch.eye(channels) if previous == channels else torch.full((channels, previous), 1 / previous)
            self.transition = nn.Parameter(alike)
            self.noise, self.gain = (nn.Parameter(torch.tensor(float(value))) for value in (noise, gain))

    def forward(self, x, previous=None):
        if not self.training:
            estimate = self.running_mean, self.running_var
            return self.fixed(x, estimate[0], (estimate[1] + self.eps).sqrt()), estimate
        rows, mean, var = self.batches(x)
        if self.transition is not None:
            mean, var = self.fuse(self.predict(*previous), mean, var)
        self.track(running_mean=mean, running_var=var)
        std = (var + self.eps).sqrt()
        return self.affine((rows - per_channel(mean)) / per_channel(std), x), (mean, var)

    def predict(self, mean, var):
        """The prior: what the previous estimate leads one to expect."""
        a = self.transition if self.transition.dim() == 2 else torch.diag(self.transition)
        return mean @ a.T, var @ a.T**2 + self.noise

    def fuse(self, prior, mean, var):
        """Prior and observation, as the moments of their mixture."""
        q, delta = self.gain, mean - prior[0]
        return prior[0] + q * delta, (1 - q) * prior[1] + q * var + q * (1 - q) * delta**2


class Exponential(nn.Module):
    def forward(self, w):
        return w.exp()

    def right_inverse(self, a):
        return a.log()


class Sigmoid(nn.Module):
    def forward(self, w):
        return w.sigmoid()

    def right_inverse(self, a):
        return a.logit()


def trainable(norm):
    """A KalmanNorm with a prior whose noise is trained as e^w, and its gain as the sigmoid of w."""
    parametrize.register_parametrization(norm, "noise", Exponential())
    parametrize.register_parametrization(norm, "gain", Sigmoid())
    return norm


# ---- what `kalnorm-ref verify` imports ---------------------------------------------------------------------------

from kalnorm_ref.oracle.modules import from_module  # noqa: E402


def kalman(case):
    """A KalmanNorm for a case, with or without a prior."""
    previous = case.tensors.get("previous_mean")
    return KalmanNorm(case.channels, None if previous is None else previous.shape[-1])


batch_renorm, kalman_norm = from_module(BatchRenorm), from_module(kalman)
