"""``python -m fuzz``."""

import sys

from . import main

sys.exit(main())
