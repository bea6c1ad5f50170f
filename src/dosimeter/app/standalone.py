"""The explorer without its server: a folder that any browser opens, and any web server serves.

A page that was opened from a file may neither import modules nor fetch, nor read the pixels of an image file. So the
modules are joined into one script, and images lie as base64 PNGs in scripts of their own, one for each case.
"""

import base64
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dosimeter.app.explorer import TIMES, Explorer
from dosimeter.app.server import static_files
from dosimeter.errors import DosimeterError
from dosimeter.files import is_free
from dosimeter.progress import Progress
from dosimeter.replay.export import MARK
from dosimeter.units import parse_epsilons

SHOWN_EPSILONS = (0.0, 0.0007, 0.003, 0.009, 0.08)
"""Doses of which the paper shows images, and none."""

DEFAULT_LIMIT = 20

POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""What the page may load: `file:` beside 'self', which some browsers do not take for the page's own folder."""

_MODULES = ("reader/images.js", "explorer/source.js", "explorer/explorer.js")  # each after what it imports
_HEAD = f"""<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="robots" content="noindex">
<link rel="stylesheet" href="explorer.css">
<script src="data/run.js" defer></script>
<script src="explorer.js" defer></script>"""
_SERVED_HEAD = """<link rel="stylesheet" href="explorer.css">
<script type="module" src="explorer.js"></script>"""


class Choice(NamedTuple):
    """What to export, checked.

    Attributes:
        folder: to write to; absent or empty.
        epsilons: ascending, 0 among them; None: `SHOWN_EPSILONS` as far as they lie within a curve's range.
        limit: images of each curve.
    """

    folder: Path
    epsilons: tuple[float, ...] | None
    limit: int


def check_export(folder: Path, *, epsilons: str | None = None, limit: int | None = None) -> Choice:
    """Return what to export; to be asked before the run's images are made, which takes a while.

    Raises:
        DosimeterError: the folder holds something, the limit is below 1, or an epsilon is none.
    """
    if not is_free(folder):
        raise DosimeterError(f"export: the folder must be empty or absent, {folder} is not. Name another.")
    if limit is not None and limit < 1:
        raise DosimeterError(f"limit must be at least 1 image, got {limit}. Leave it out for {DEFAULT_LIMIT}.")
    return Choice(
        folder.resolve(),
        None if epsilons is None else parse_epsilons(epsilons),
        DEFAULT_LIMIT if limit is None else limit,
    )


def write_explorer(explorer: Explorer, choice: Choice, *, progress: Progress | None = None) -> int:
    """Write the explorer of a run's most susceptible images, and return how many there are, all curves together.

    Each image is there at every chosen epsilon and at its own flip epsilon, or at every severity of a physical
    change, as its curve's storages leave it, with what the classifier says. The folder is written beside its place
    and moved there at the end.

    Args:
        explorer: of a finished run.
        choice: see `check_export`.
        progress: told of every image.

    Raises:
        DosimeterError: an epsilon is beyond the run's, no image can be read, or the disk refused; nothing is left then.
    """
    progress = progress or Progress()
    run = explorer.run() | {"exported": True}
    doses = [curve["severities"] or _doses(curve["epsilons"], choice.epsilons) for curve in run["curves"]]
    listed = [explorer.cases(place)[: choice.limit] for place in range(len(run["curves"]))]
    progress.begin("exporting", sum(map(len, listed)))
    mark = f"// {MARK}. Run {run['run_id']}.\n"
    written: list[list[dict[str, Any]]] = [[] for _ in listed]
    with _drafted(choice.folder) as draft:
        for place, case in ((place, case) for place, cases in enumerate(listed) for case in cases):
            severities = run["curves"][place]["severities"]  # among which a flip is
            own = severities or sorted({*doses[place], case["flip"] or 0.0})
            try:
                image = _image(explorer, place, case["place"], own, run["curves"][place]["storages"])
            except DosimeterError as error:
                progress.note(f"left out: {error}")
                continue
            name = f"{place}-{case['place']}"
            _write(draft / "data" / f"{name}.js", f'{mark}dosimeterExport.images["{name}"] = {_json(image)};\n')
            written[place].append(case | {"epsilons": own})
            progress.advance()
        if not all(written):
            raise DosimeterError(
                "export: a curve of the run has no image that can be read. Name the folder with --data."
            )
        facts = {"run": run, "cases": written, "images": {}}
        _write(draft / "data" / "run.js", f"{mark}var dosimeterExport = {_json(facts)};\n")
        _write_page(draft)
    return sum(map(len, written))


def _doses(grid: Sequence[float], chosen: tuple[float, ...] | None) -> tuple[float, ...]:
    """Return the epsilons to show of a curve that was swept along `grid`."""
    smallest, largest = min(grid, default=0.0), max(grid, default=0.0)
    if chosen is None:
        return tuple(epsilon for epsilon in SHOWN_EPSILONS if epsilon == 0 or smallest <= epsilon <= largest)
    if max(chosen) > largest:
        raise DosimeterError(
            f"epsilons must be at most the largest of the run, {largest:g}, got {max(chosen):g}. Leave it out, or run "
            "a study with it."
        )
    return chosen


def _image(
    explorer: Explorer, curve: int, case: int, doses: Sequence[float], storages: Sequence[str]
) -> dict[str, Any]:
    """Return a case at all its epsilons: what is said of each, and places in a list of PNGs without repetition."""
    pictures: dict[bytes, int] = {}

    def place_of(kind: str, epsilon: float, storage: str, times: float = 1) -> int:
        return pictures.setdefault(explorer.picture(kind, curve, case, epsilon, storage, times), len(pictures))

    original = place_of("original", doses[0], storages[0])
    points = [
        {
            "storage": storage,
            "epsilon": epsilon,
            "answer": explorer.answer(curve, case, epsilon, storage),
            "original": original,
            "adversarial": place_of("adversarial", epsilon, storage),
            "difference": {str(times): place_of("difference", epsilon, storage, times) for times in TIMES},
        }
        for storage in storages
        for epsilon in doses
    ]
    return {"pictures": [base64.b64encode(each).decode() for each in pictures], "points": points}


@contextmanager
def _drafted(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, with a folder "data" in it, that takes the place of `folder` if all goes well."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            draft = Path(name) / "explorer"
            (draft / "data").mkdir(parents=True)
            yield draft
            if folder.exists():
                folder.rmdir()
            draft.replace(folder)
    except OSError as error:
        raise DosimeterError(
            f"export: {folder} cannot be written ({error.strerror or error}), and nothing is left of it. Make room, or "
            "name a folder on another disk."
        ) from error


def _write_page(folder: Path) -> None:
    """Write the page, its style and its script, which is the explorer's modules in one."""
    files = {name: file.body.decode() for name, file in static_files().items() if not name.endswith("/")}
    page = files["explorer/index.html"]
    assert page.count(_SERVED_HEAD) == 1
    modules = "\n".join(_plain(files[name]) for name in _MODULES)
    _write(folder / "index.html", page.replace(_SERVED_HEAD, _HEAD))
    _write(folder / "explorer.css", files["explorer/explorer.css"])
    _write(folder / "explorer.js", f'"use strict";\n(() => {{\n{modules}}})();\n')


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="\n")


def _plain(module: str) -> str:
    """Return a module without its imports and exports, which stand at the beginnings of lines."""
    return re.sub(r"^export ", "", re.sub(r"^import .*\n", "", module, flags=re.M), flags=re.M)


def _json(value: object) -> str:
    """Return JSON that may stand in a script."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
