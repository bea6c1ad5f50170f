"""The command line: parse, call, print. Nothing here computes, and nothing heavy is imported before it is needed."""

import io
import logging
import os
import signal
import sys
import threading
from pathlib import Path


def _open_streams() -> None:
    """Let every character be written, and what is written to a stream that the caller closed go nowhere.

    No file of ours takes the number of such a stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        setattr(sys, name, Path(os.devnull).open("r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115 (open as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")  # what its encoding lacks, a dash in ASCII, stops no command


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2, Ctrl-C and SIGTERM are 130."""
    _open_streams()
    before = None
    if threading.current_thread() is threading.main_thread():  # only there may it be set
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    from dosimeter.cli.app import app, suit
    from dosimeter.cli.lines import say
    from dosimeter.errors import DosimeterError
    from dosimeter.plain import LineFormatter

    if logging.lastResort is not None:  # says the library's warnings where no run has a log
        logging.lastResort.setFormatter(LineFormatter("%(message)s"))

    suit(app)
    try:
        app()
    except DosimeterError as error:
        say(f"error: {error}", error=True, urgent=True)
        sys.exit(2)
    except KeyboardInterrupt:  # before a command could say what it leaves
        say("stopped.", error=True, urgent=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        say(
            f"error: the disk or a folder refused: {error}. What was finished is kept; make room or give a folder "
            "that can be written (--out, DOSIMETER_CACHE), and the same command continues.",
            error=True,
            urgent=True,
        )
        sys.exit(2)
    finally:
        if before is not None:  # the interpreter's own end would swallow the exception
            signal.signal(signal.SIGTERM, before)
