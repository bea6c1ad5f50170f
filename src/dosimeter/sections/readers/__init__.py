"""What readers saw, beside what the classifier does."""

import functools
from collections.abc import Iterator
from typing import Any

from dosimeter.presentation.section import Drawing, Page, Panel, Reading, Section, fill
from dosimeter.presentation.values import finite
from dosimeter.sections.readers.figures import of_study, psychometric_curves, readers_caption
from dosimeter.sections.readers.page import reader_sentences, reader_views


class Readers(Section):
    """What readers saw."""

    title = "What readers saw"
    note = "thresholds of people who looked for the perturbation"
    rank = 100

    def is_there(self, run: Reading) -> bool:
        """Whether a study with readers was joined to the run."""
        return bool(run.meta.get("readers"))

    def page(self, run: Reading) -> Page:
        """Return what each study found, and its tables."""
        studies = run.meta["readers"]
        body = fill(
            __name__,
            simulated=any(study["simulated"] for study in studies),
            caught=any(study["catch"] for study in studies),
        )
        said = list(reader_sentences(studies, run.tables))
        return Page(body, sentences=said, tables=list(reader_views(studies, run.tables)))

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield the psychometric curves of each study."""
        for study in panel.readers:
            draw = functools.partial(psychometric_curves, study, of_study(panel.every["epsilon50"], study))
            name = f"{study['model']}-{study['study']}"
            yield Drawing("readers", self.title, draw, readers_caption(study), name, of_seed=False)

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return reader_studies, as `readers.results.results` returns them."""
        return {"reader_studies": finite(run.meta["readers"])} if self.is_there(run) else {}


ENTRY: Section = Readers()
