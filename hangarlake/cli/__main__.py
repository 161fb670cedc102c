"""``python -m hangarlake.cli``."""

import sys

from hangarlake.cli import main

sys.exit(main())
