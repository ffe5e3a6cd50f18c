"""What a report is made of, besides its tables."""

from typing import NamedTuple


class Heading(NamedTuple):
    """The title of a part."""

    text: str


class Paragraph(NamedTuple):
    """Plain text."""

    text: str


class Folded(NamedTuple):
    """Blocks that are shown when asked for."""

    title: str
    blocks: tuple


class Picture(NamedTuple):
    """A figure: file name, what it shows, how that was measured, and its bytes, on white and on a dark page."""

    name: str
    title: str
    caption: str
    light: bytes
    dark: bytes
