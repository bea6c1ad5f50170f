"""The command line: parse, call, print. Nothing here computes, and nothing heavy is imported before it is needed."""

import os
import sys


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2, Ctrl-C is 130."""
    from dosimeter.cli.app import app
    from dosimeter.errors import DosimeterError

    try:
        app()
    except DosimeterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(
            f"error: the disk or a folder refused: {error}. What was finished is kept; make room or give a folder "
            "that can be written (--out, DOSIMETER_CACHE), and the same command continues.",
            file=sys.stderr,
        )
        sys.exit(2)
