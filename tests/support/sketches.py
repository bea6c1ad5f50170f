"""Reports without their drawings, which are most of a report's time: blank files stand in their places."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from dosimeter.presentation.style import save
from dosimeter.report import figures

_drawings = figures._drawings


def blank(figure: Figure, stem: Path, *, mark: str = "") -> tuple[Path, Path]:
    """Write what `presentation.style.save` writes, but no picture."""
    svg, png = stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.png")
    svg.write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><!-- {mark} --></svg>\n', encoding="utf-8")
    Image.new("L", (1, 1)).save(png)
    return svg, png


def undrawn(trial: Any) -> Iterator[Any]:
    """The figures of a report, none of them drawn."""
    for section, drawing in _drawings(trial):
        yield section, drawing._replace(draw=Figure)


def unreported(folder: Path, **_: Any) -> Path:
    """In the place of `redraw`: write a blank report and no tables."""
    for name in ("tables", "figures"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "report.html").write_text("not drawn")
    (folder / "summary.json").write_text('{"status": "complete", "phantom": false, "results": []}')
    return folder / "report.html"


def drawn_alone(*subjects: str) -> AbstractContextManager[None]:
    """Within it reports have their pictures of these subjects, and all others are blank."""

    def some(trial: Any) -> Iterator[Any]:
        for section, drawing in _drawings(trial):
            yield section, drawing if drawing.subject in subjects else drawing._replace(draw=Figure)

    def saving(figure: Figure, stem: Path, *, mark: str = "") -> tuple[Path, Path]:
        return save(figure, stem, mark=mark) if figure.axes else blank(figure, stem, mark=mark)

    return _made_by(saving, some)


@contextmanager
def _made_by(saving: Any, drawings: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "save", saving)
        patched.setattr(figures, "_drawings", drawings)
        yield


def sketched() -> AbstractContextManager[None]:
    """Within it reports have all their figures, and each is blank."""
    return _made_by(blank, undrawn)


def drawn() -> AbstractContextManager[None]:
    """Within it reports have their pictures."""
    return _made_by(save, _drawings)
