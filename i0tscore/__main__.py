"""``python -m i0tscore`` is the command ``i0tscore``."""

import sys

from i0tscore.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
