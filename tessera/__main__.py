"""The program ``tessera``, and ``python -m tessera``: imports the command line, which takes a moment, and runs it."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the program; Ctrl-C ends it with one line, also while it imports."""
    try:
        from tessera.sw.cli import main as run

        run()
    except KeyboardInterrupt:
        print("tessera: ended by Ctrl-C", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
