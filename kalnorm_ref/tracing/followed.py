"""Which functions a trace follows: the public definitions of the package, and what their results are called."""

import inspect
import re
import sys
import types

from ..moments import Moments

PACKAGE = __name__.partition(".")[0]
ONE_OPERATION = (f"{PACKAGE}.convolution",)  # its loops over taps teach nothing here
INNER = ("_rectified", "_observe", "_fuse", "filter_gain")  # helpers that hold the equations of a definition


def definitions():
    """The code objects of the package's public and staged definitions: {code: function}."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == PACKAGE and module is not None:
            for key, value in vars(module).items():
                if isinstance(value, types.FunctionType) and (key in INNER or not key.startswith("_")):
                    inner = inspect.unwrap(value)
                    followed = inner is not value or key in INNER or key.endswith("_staged")
                    if followed and inner.__module__ not in ONE_OPERATION:
                        found[inner.__code__] = inner
    return found


def result_names(definition, values):
    """Names of a function's results: what its docstring returns; of a backward without that, d and the arguments."""
    if definition.__name__.endswith("_staged"):
        sibling = getattr(inspect.getmodule(definition), definition.__name__.removesuffix("_staged"))
        return result_names(inspect.unwrap(sibling), values)
    documented = inspect.cleandoc(definition.__doc__ or "")
    stated = re.search(r"^Returns: (.*?)(?=^[A-Z]\w+:|\Z)", documented, re.MULTILINE | re.DOTALL)
    listed = re.match(r"Gradient of \w+: ([\w, ]+)", documented)
    if stated:
        text = stated[1]
        while text != (text := re.sub(r"\([^()]*\)", "", text)):
            pass
        names = re.findall(r"\w+", text.partition(".")[0])
    elif listed:
        names = listed[1].split(", ")
    elif definition.__name__.endswith("_backward"):
        names = [f"d{name}" for name in list(inspect.signature(definition).parameters)[1:]]
    else:
        names = []
    if len(values) == 1 and isinstance(values[0], Moments) and (not names or names[0] == "Moments"):
        return [""]
    return [names[i] if i < len(names) else f"result[{i}]" for i in range(len(values))]
