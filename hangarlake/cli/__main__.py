"""``python -m hangarlake.cli``."""

import sys

from hangarlake.cli.app import main

sys.exit(main())
