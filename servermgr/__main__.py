"""`python -m servermgr`."""

import sys

from servermgr.cli import main

if __name__ == "__main__":
    sys.exit(main())
