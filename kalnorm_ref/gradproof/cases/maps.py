"""Cases of what happens to maps between normalizers."""

from ... import maps
from ..loops import maps as loops
from ..pairs import G, pair


@pair(maps, "maps.relu", "x", loops, "result alone", twin=True)
def relu(draw):
    x = draw.normal(G, 3, 4, 2, mean=7.0)
    x[1, ::2, 3] *= -0.3  # the rest stays far from zero
    yield "", (x,), (draw.normal(*x.shape),)


@pair(maps, "maps.avg_pool", "x", loops, "options", twin=True)
def avg_pool(draw):
    yield "", (draw.x(G, 4, 9, 2), 2, 3), (draw.normal(G, 2, 3, 2),)


@pair(maps, "maps.pad_channels", "x", loops, "options", twin=True)
def pad_channels(draw):
    yield "", (draw.x(G, 4, 3), 1, 2), (draw.normal(G, 4, 6),)
