"""Text on a terminal and in a log is one line, whatever a file is called."""

import ast
import io
import json
import logging
from pathlib import Path

import pytest

import dosimeter.cli
from dosimeter.cli.lines import say, say_json
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import LONGEST_NAME, LineFormatter, named, one_line, shown

HOSTILE = "x\r\nERROR forged\x1b[2J\x9b31m\u2028\u202egnp.\udce9\x7f"


def test_one_line_keeps_letters_and_escapes_what_steers_a_terminal() -> None:
    assert one_line("Röntgen 胸部 \U0001fac1 می\u200cخواهم.png") == "Röntgen 胸部 \U0001fac1 می\u200cخواهم.png"
    assert one_line(HOSTILE) == r"x\r\nERROR forged\x1b[2J\x9b31m\u2028\u202egnp.\xe9\x7f"
    for code in range(0x3000):
        escaped = one_line(chr(code))
        assert len(escaped.splitlines()) == 1, hex(code)
        assert code >= 32 or not any(ord(char) < 32 for char in escaped)


def test_names_and_values_have_a_bounded_length() -> None:
    assert named("a.png") == "a.png"
    assert len(named("y" * 10**6)) < LONGEST_NAME + 10
    assert named("begin" + "y" * 10**6 + "end").startswith("begin")
    assert named("begin" + "y" * 10**6 + "end").endswith("end")
    assert shown("a") == "'a'"
    assert shown(10**5000) == "a number of 16610 bits"
    assert len(shown(["z" * 1000] * 1000)) < LONGEST_NAME + 10


def test_an_error_is_one_line() -> None:
    assert one_line(str(DosimeterError(f"no file {HOSTILE}"))) == str(DosimeterError(f"no file {HOSTILE}"))
    assert "\x1b" not in did_you_mean("a\x1b", ["a\x1b[0m"])


def test_a_log_entry_cannot_forge_another() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("made")
    logger.addHandler(handler)
    logger.warning("%s is left out", HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("it failed")
    lines = stream.getvalue().split("\n")
    assert [line.split(" ")[0] for line in lines if not line.startswith("    ")] == ["WARNING", "ERROR", ""]
    assert "\x1b" not in stream.getvalue()


def test_say_writes_lines_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"file {HOSTILE}", "next")
    say("wrong", error=True)
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 2
    assert "\x1b" not in captured.out
    assert captured.err == "wrong\n"
    say_json({"ü": [HOSTILE, "\U000e0041"]})
    text = capsys.readouterr().out
    assert json.loads(text) == {"ü": [HOSTILE, "\U000e0041"]}
    assert "ü" in text
    assert all(one_line(line) == line for line in text.split("\n"))


def test_commands_write_through_say_alone() -> None:
    for file in Path(dosimeter.cli.__file__).parent.glob("*.py"):
        calls = (node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
        printing = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
        assert not printing or file.name == "lines.py", file
