"""Markdown tables, as the benchmarks print them."""

from collections.abc import Iterable, Sequence

from timing import Spread


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """Return a table whose first `text_columns` columns are text, the others numbers."""
    rule = [":--" if place < text_columns else "--:" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *rows])


def ranged(values: Spread, digits: int = 2) -> str:
    """Return "1.25 (1.20 to 1.31)": the median and the range."""
    median, least, most = (f"{value:.{digits}f}" for value in values)
    return median if least == most else f"{median} ({least} to {most})"
