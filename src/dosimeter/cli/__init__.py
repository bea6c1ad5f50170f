"""The command line: parse, call, print. Nothing here computes, and nothing heavy is imported before it is needed."""

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
