"""The commands `data fetch` and `data check`."""

import json

from .. import data
from ..data.cifar import LAYOUTS
from .common import command

EXAMPLES = """examples:
  kalnorm-ref data fetch cifar10 --dir ~/datasets
  kalnorm-ref data check cifar10 --dir ~/datasets
"""


def add(commands):
    """Add the two commands and their options."""
    about = "Download CIFAR (the official binary release), or check what is there."
    actions = commands.add_parser("data", help=about, description=about, epilog=EXAMPLES)
    actions = actions.add_subparsers(metavar="ACTION", required=True)
    about = "Download an archive, or finish a download that was cut; its MD5 sum is checked."
    fetch = command(actions, "fetch", about, _fetch, "what has come is kept, run again to go on", EXAMPLES)
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    about = "Read a data set whole and print what it holds."
    check = command(actions, "check", about, _check, "nothing was written", EXAMPLES)
    check.add_argument("--json", action="store_true", help="print JSON")
    fetch.add_argument("name", choices=tuple(LAYOUTS), help="the data set")
    check.add_argument("name", choices=data.NAMES, help="the data set")
    for sub in (fetch, check):
        sub.add_argument("--dir", help="folder of the archive (default: $KALNORM_DATA, else ~/.cache/kalnorm_ref)")


def _fetch(arguments):
    return lambda: print(data.fetch(arguments.name, arguments.dir, progress=not arguments.quiet))


def _check(arguments):
    found = data.load(arguments.name, arguments.dir)
    counts = {
        "name": found.name,
        "training_images": len(found.train_labels),
        "test_images": len(found.test_labels),
        "image_shape": list(found.train_images.shape[1:]),
        "classes": list(found.classes),
    }
    text = (
        f"{counts['name']}: {counts['training_images']} training and {counts['test_images']} test images of "
        f"{'x'.join(map(str, counts['image_shape']))}, {len(counts['classes'])} classes"
    )
    return lambda: print(json.dumps(counts) if arguments.json else text)
