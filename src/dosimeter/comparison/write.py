"""Writes a comparison: its page, its table and its numbers for machines."""

import json
from pathlib import Path

from dosimeter.comparison.compare import Comparison
from dosimeter.comparison.page import as_json, render
from dosimeter.errors import DosimeterError
from dosimeter.files import replacing, write_text
from dosimeter.plain import named
from dosimeter.presentation.values import write_csv


def write(found: Comparison, folder: Path) -> Path:
    """Write comparison.html, .csv and .json into `folder`, which is made if needed, and return the page's path.

    Physical changes that both runs asked about are in comparison-physical.csv.

    Raises:
        DosimeterError: the folder cannot be written.
    """
    texts = {
        "html": render(found),
        "json": json.dumps(as_json(found), indent=2, allow_nan=False, ensure_ascii=False) + "\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            write_text(folder / f"comparison.{ending}", text)
        for name, table in (("comparison", found.table), ("comparison-physical", found.physical)):
            with replacing(folder / f"{name}.csv") as temporary:
                write_csv(table, temporary)
    except OSError as error:
        raise DosimeterError(f"out must be a folder that can be written, {named(folder)} cannot ({error}).") from error
    return folder / "comparison.html"
