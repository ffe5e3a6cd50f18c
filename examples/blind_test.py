"""A blind test: the usual one of batch normalization's backward, what it lets pass, and what the kit says of the same.

    python -m examples.blind_test

The test takes y.sum() for the loss, so that dy is ones. y sums to beta m whatever x is, so that dx and dgamma are zero:
their terms cancel or vanish, and whatever multiplies them is not seen either. No tolerance helps; another dy does.
"""

import numpy as np

from examples.numpy_target import BatchNorm
from kalnorm_ref import oracle
from kalnorm_ref.oracle import bugs, core
from kalnorm_ref.oracle.emulation import emulated

ORDINARY, CASES = ["bn/ordinary/float64"], ["bn/*/float64"]


class NoProjection(BatchNorm):
    """Batch normalization whose dx lacks its last term."""

    def backward(self, dy):
        found = super().backward(dy)
        if self.training:
            g = dy if self.gamma is None else dy * self.gamma
            found["dx"] = self.rstd * (g - g.mean(self.over))
        return found


def usual_test(factory):
    """Whether a target passes: its gradients against central differences of y.sum(), in float64."""
    (case,) = core.choose(ORDINARY)
    target = factory(case)

    def loss(tensors):
        target.set_state({name: np.array(a) for name, a in case.state.items()})
        return target.forward(tensors, True)["y"].sum()

    loss(case.tensors)
    found = target.backward(np.ones_like(case.tensors["x"]))
    return all(
        np.allclose(found[f"d{name}"], differences(loss, case.tensors, name), rtol=1e-6, atol=1e-7)
        for name in ("x", "gamma", "beta")
    )


def differences(loss, tensors, name, h=1e-5):
    """The central difference of the loss in each element of one tensor."""
    a = tensors[name]
    gradient = np.zeros(a.shape)
    for i in np.ndindex(a.shape):
        step = np.zeros(a.shape)
        step[i] = h
        up, down = (loss({**tensors, name: a + sign * step}) for sign in (1, -1))
        gradient[i] = (up - down) / (2 * h)
    return gradient


def backward_bugs():
    """The seeded bugs of batch normalization that change a gradient and nothing else."""
    (case,) = core.choose(ORDINARY)
    right = core.truth(case)
    for bug in bugs.changes("bn", convention=False):
        target = emulated(changes=bug.steps)(case)
        out = target.forward(case.tensors, True) | target.get_state()
        if all(np.allclose(a, right[name], rtol=1e-9, atol=1e-12) for name, a in out.items()):
            back = target.backward(**case.upstream)
            if not all(np.allclose(a, right[name], rtol=1e-9, atol=1e-12) for name, a in back.items()):
                yield bug


def main():
    for factory in (BatchNorm, NoProjection):
        verdict = "passes" if usual_test(factory) else "fails"
        print(f"{factory.__name__}: the usual test {verdict}; the kit: {oracle.verify(factory, CASES).summary()}")
    found = list(backward_bugs())
    passing = [bug for bug in found if usual_test(emulated(changes=bug.steps))]
    caught = [bug for bug in passing if oracle.verify(emulated(changes=bug.steps), ORDINARY).failures]
    print(f"\nOf {len(found)} wrong backwards the usual test passes {len(passing)}. In the same case, with a random dy")
    print(f"in the place of ones, the kit catches {len(caught)} of these:\n")
    print(*(f"  {bug.name:36}{bug.text}" for bug in passing), sep="\n")


if __name__ == "__main__":
    main()
