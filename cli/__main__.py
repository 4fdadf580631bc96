"""``python -m cli`` from a checkout, where nothing is installed."""

import sys

from .app import main

if __name__ == "__main__":
    sys.exit(main())
