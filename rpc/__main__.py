"""`python -m rpc`: the command line; without arguments, and with a pipe to read from, the child of a proxy."""

import os
import stat
import sys


def _main() -> int:
    # Each loads only what it needs: a proxy waits for its child.
    if len(sys.argv) == 1 and stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        from rpc import child  # noqa: PLC0415

        return child.main()
    from rpc import cli  # noqa: PLC0415

    return cli.main()


if __name__ == "__main__":
    sys.exit(_main())
