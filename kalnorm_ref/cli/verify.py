"""The command `verify`."""

import sys
from pathlib import Path

from .. import oracle
from ..oracle import core
from ..oracle.target import KINDS
from .common import command
from .reports import add_report, wanted

EXAMPLES = """examples:
  kalnorm-ref verify my_norm:factory                         every case; the table of what fails, worst first
  kalnorm-ref verify my_norm:batch_norm --kind function      a plain f(x, gamma, beta, eps) -> y
  kalnorm-ref verify torch.nn:BatchNorm2d --kind module      a module of PyTorch
  kalnorm-ref verify my_norm:factory --cases "bn/*" "*offset*"   some cases only; `kalnorm-ref list` shows them
  kalnorm-ref verify my_norm:factory --out report.html       a page with the error of each channel
  kalnorm-ref verify my_norm:factory --format junit --out report.xml --min-cases 100     in continuous integration

A factory is a function of a case that returns an object with forward, backward, get_state and set_state; the least:

  class MyNorm:
      capabilities = {"bn.train", "bn.backward", "float32", "NHWC"}     what is not listed is skipped, never passed
      def __init__(self, case): self.eps = case.params["eps"]
      def forward(self, tensors, training):                             x, gamma, beta, as NumPy arrays
          return {"y": ...}
      def backward(self, dy):
          return {"dx": ..., "dgamma": ..., "dbeta": ...}

  kalnorm-ref verify my_norm:MyNorm                                     the class itself is a factory

exit code 0: everything that was asked is right. 1: something is not, and the table says what and why. 2: a mistake in
the command. 3: fewer cases than --min-cases were run. 4: the target cannot be imported. Python looks for it in the
folder at hand first.
"""


def add(commands):
    """Add the command and its options."""
    about = "Ask a normalizer every case, and say whether it is right, how wrong it is, and why."
    sub = command(commands, "verify", about, _prepare, "nothing was written", EXAMPLES)
    sub.add_argument("target", metavar="TARGET", help="package.module:name")
    sub.add_argument("--kind", choices=KINDS, default="factory", help="what the name is (default: factory)")
    about = "ids of cases, with * and ? (default: all)"
    sub.add_argument("--cases", nargs="+", metavar="PATTERN", help=about)
    about = "core: small and fixed; extended: larger, with other draws, in every type (default: core)"
    sub.add_argument("--tier", choices=core.catalogue.TIERS, default="core", help=about)
    add_report(sub)


def _prepare(arguments):
    accepted, progress, show = wanted(arguments, "verify")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    factory = oracle.load(arguments.target, arguments.kind)
    cases = core.choose(arguments.cases, arguments.tier)

    def work():
        return show(
            oracle.verify(
                factory, cases, arguments.min_cases, name=arguments.target, accepted=accepted, progress=progress
            )
        )

    return work
