"""Makes `python -m kalnorm_ref` the same as `kalnorm-ref`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
