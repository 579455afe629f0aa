"""The command line."""

import sys

from rpc.child import main

if __name__ == "__main__":
    sys.exit(main())
