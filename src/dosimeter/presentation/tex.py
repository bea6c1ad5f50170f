"""Text as LaTeX prints it: escaped, and with places where a long word may be broken."""

import re

LONG_WORD = 10
"""Characters of a word, or of its part between signs, that is not broken."""

_ESCAPES = {
    **{char: f"\\{char}" for char in "&%_#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\^{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "†": r"\dag{}",
    "…": r"\dots{}",
    "“": "``",
    "”": "''",
    "’": "'",
    "‘": "`",
    "\u00a0": "~",
    "\u202f": r"\,",
}


def escape(text: str) -> str:
    """Return `text` as LaTeX prints it; a letter that no usual font has is named by its number.

    Example:
        >>> escape("50 % of a_b, 5–9")
        '50 \\\\% of a\\\\_b, 5--9'
    """
    return "".join(_power(part) or "".join(map(_escaped, part)) for part in _RAISED.split(text))


_RAISED = re.compile("([⁻⁰¹²³⁴-⁹]+)")
_DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def _power(part: str) -> str:
    """Return raised digits as LaTeX sets them, "" for other text."""
    return f"$^{{{part.translate(_DIGITS)}}}$" if _RAISED.fullmatch(part) else ""


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if " " <= char <= "~" or "\u00c0" <= char <= "\u017f":
        return char
    return f"[U+{ord(char):04X}]"


def breakable(text: str) -> str:
    """Return `text` as LaTeX prints it, with places to break in long words."""
    return "".join(escape(part) + ("" if part.endswith(" ") else r"\allowbreak{}") for part in unbroken(text))


def unbroken(text: str) -> list[str]:
    """Return the parts of a text that are never broken: words, and of long words what stands between signs."""
    parts = []
    for word in re.findall(r"\S+\s*", text):
        if len(word.strip()) <= LONG_WORD:
            parts.append(word)
        else:
            parts += [
                piece for each in re.findall(r"[^_\-+/:.@,]*[_\-+/:.@,]|[^_\-+/:.@,]+", word) for piece in _cut(each)
            ]
    return parts or [""]


def _cut(word: str) -> list[str]:
    return [word[start : start + LONG_WORD] for start in range(0, len(word), LONG_WORD)]
