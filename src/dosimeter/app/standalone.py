"""An explorer written out: a folder that a browser opens without a server.

A page opened from a file may neither import modules nor read the pixels of image files, so the modules are joined into
one script and the images lie as PNG data URLs in scripts of their own.
"""

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dosimeter.app.explorer import Explorer
from dosimeter.app.server import static_files
from dosimeter.errors import DosimeterError
from dosimeter.units import parse_epsilons

PAPER_EPSILONS = (0.0, 0.0007, 0.003, 0.009, 0.08)
"""What the paper shows pictures of, and 0."""

MODULES = ("pixels.js", "source.js", "slider.js", "panes.js", "list.js", "main.js")
"""In an order in which each comes after what it imports."""


def write_explorer(
    explorer: Explorer, folder: Path, *, epsilons: Sequence[float] | str = PAPER_EPSILONS, limit: int = 20
) -> int:
    """Write an explorer of `limit` images of each curve into `folder`, and return how many images there are.

    Args:
        explorer: of a finished run.
        folder: new or empty.
        epsilons: to show, besides each image's own flip epsilons.
        limit: images of each curve, the smallest flip epsilon first.

    Raises:
        DosimeterError: the folder holds something, or a number is out of its range.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DosimeterError(f"export: {folder} is there and not empty. Name a new folder.")
    if limit < 1:
        raise DosimeterError(f"limit must be 1 or more, got {limit}.")
    doses = parse_epsilons(epsilons)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".explorer-") as name:
        draft = Path(name) / "explorer"
        (draft / "data").mkdir(parents=True)
        run = explorer.run()
        lists = {}
        n_images = 0
        for place, curve in enumerate(run["curves"]):
            listed = {storage: explorer.cases(place, storage) for storage in curve["storages"]}
            chosen = sorted(listed[curve["storages"][0]]["cases"], key=_susceptibility)[:limit]
            kept = [case["index"] for case in chosen]
            for storage, cases in listed.items():
                lists[f"{place}-{storage}"] = cases | {"cases": [cases["cases"][index] for index in kept]}
            for index in kept:
                _write_case(explorer, draft, place, index, listed, doses)
            n_images += len(kept)
        facts = run | {"exported": True, "lists": lists}
        (draft / "data" / "run.js").write_text(f"window.dosimeterRun = {_json(facts)};\n", encoding="utf-8")
        _write_page(draft)
        if folder.exists():
            folder.rmdir()
        draft.replace(folder)
    return n_images


def _write_case(
    explorer: Explorer,
    folder: Path,
    curve: int,
    case: int,
    listed: dict[str, dict[str, list[dict[str, float | None]]]],
    doses: Sequence[float],
) -> None:
    shown = {}
    flips = {cases["cases"][case]["flip"] for cases in listed.values()}
    own = sorted({*doses, *(flip for flip in flips if flip is not None)})
    for storage in listed:
        points = [explorer.point(curve, case, storage, dose) for dose in own]
        shown[storage] = explorer.view(curve, case, storage) | {"points": points}
    script = f'window.dosimeterCase("{curve}-{case}", {_json(shown)});\n'
    (folder / "data" / f"{curve}-{case}.js").write_text(script, encoding="utf-8")


def _write_page(folder: Path) -> None:
    files = {name: file.body.decode() for name, file in static_files().items() if name.startswith("explorer/")}
    page = files["explorer/index.html"]
    scripts = '<script src="data/run.js" defer></script>\n<script src="explorer.js" defer></script>'
    page, n_scripts = re.subn(r'<script type="module" src="main.js"></script>', scripts, page)
    assert n_scripts == 1
    (folder / "index.html").write_text(page, encoding="utf-8")
    (folder / "explorer.css").write_text(files["explorer/explorer.css"], encoding="utf-8")
    joined = "\n".join(_plain(files[f"explorer/{name}"]) for name in MODULES)
    (folder / "explorer.js").write_text(f'(() => {{\n"use strict";\n{joined}}})();\n', encoding="utf-8")


def _plain(module: str) -> str:
    """Return a module without its imports and exports, which stand at the beginnings of lines."""
    return re.sub(r"^export ", "", re.sub(r"^import .*\n", "", module, flags=re.M), flags=re.M)


def _susceptibility(case: dict[str, float | None]) -> float:
    flip = case["flip"]
    return float("inf") if flip is None else flip


def _json(value: object) -> str:
    """Return JSON that may stand in a script."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
