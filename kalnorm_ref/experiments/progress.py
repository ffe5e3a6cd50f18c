"""What a long run says while it works: a bar of images on a terminal, plain lines anywhere."""

import sys

from tqdm import tqdm


def progress_bar(title, total, done=0, progress=True):
    """A bar that counts images, on stderr where that is a terminal; a log file gets the lines of `announce` alone."""
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit="img",
        unit_scale=True,
        disable=None if progress else True,
        dynamic_ncols=True,
    )


def announce(text):
    """Print a line on stderr, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
