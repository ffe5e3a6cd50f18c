"""The steps that all normalizers share; see steps.py."""


def steps(*functions):
    """Functions by name."""
    return {f.__name__: f for f in functions}


def mean(x, average):
    return average(x)


def var(x, mean, average):
    return average((x - mean) ** 2)


def std(var, eps, sqrt):
    return sqrt(var + eps)


def rstd(std):
    return 1 / std


def x_hat(x, mean, rstd):
    return (x - mean) * rstd


def y(x_hat, gamma, beta):
    return gamma * x_hat + beta


def dx_hat(dy, gamma):
    return dy * gamma


def dgamma(dy, x_hat, total):
    return total(dy * x_hat)


def dbeta(dy, total):
    return total(dy)


def next_mean(running_mean, mean, decay, over_batches):
    return decay * running_mean + (1 - decay) * over_batches(mean)


def next_var(running_var, var, decay, over_batches):
    return decay * running_var + (1 - decay) * over_batches(var)


# what forward returns besides y


def saved_mean(mean):
    return mean


def saved_var(var):
    return var


def saved_rstd(rstd):
    return rstd


SAVED = steps(saved_mean, saved_var, saved_rstd)
