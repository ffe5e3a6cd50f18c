"""Cases of the group forms: two groups of two channels, where gamma differs within a group."""

from ... import group_kalman_norm, group_norm
from ..loops import group as loops
from ..pairs import EPS, pair

N, LENGTH, CHANNELS, GROUPS = 2, 3, 4, 2


def parameters(draw):
    return draw.normal(CHANNELS, mean=1.0), draw.normal(CHANNELS, mean=1.0)


@pair(group_norm, "collapse", "moments", loops)
def collapse(draw):
    yield "", (draw.moments(N, CHANNELS), GROUPS), (draw.gradient(N, GROUPS),)


@pair(group_norm, "group_norm", "x gamma beta", loops, "cache", twin=True)
def normalize(draw):
    arguments = draw.x(N, LENGTH, CHANNELS), *parameters(draw), GROUPS, EPS
    yield "", arguments, (draw.normal(N, LENGTH, CHANNELS),)


@pair(group_kalman_norm, "group_kalman_norm", "x gamma beta prior gain", loops, "cache", twin=True)
def kalman_normalize(draw):
    start = draw.x(N, LENGTH, CHANNELS), *parameters(draw)
    above = draw.normal(N, LENGTH, CHANNELS), draw.gradient(N, GROUPS)
    yield "a prior each", (*start, draw.moments(N, GROUPS), draw.gains(GROUPS), GROUPS, EPS), above
    yield "one prior", (*start, draw.moments(GROUPS), 0.4, GROUPS, EPS), above
    yield "no prior", (*start, None, None, GROUPS, EPS), above
