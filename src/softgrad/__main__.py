"""``python -m softgrad``."""

import sys

if __name__ == "__main__":
    try:
        from ._cli import main

        code = main()
    except KeyboardInterrupt:  # before there was anybody to tell it
        code = 130
    sys.exit(code)
