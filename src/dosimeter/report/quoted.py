"""The numbers of a finished run that other commands quote, each with the verdict on its evaluation."""

from functools import cached_property
from typing import Any

import pandas as pd

from dosimeter import registry
from dosimeter.analysis.attacks import reported_doses, robust_accuracy
from dosimeter.analysis.base import MODEL
from dosimeter.analysis.clean import clean_metrics, without_scores
from dosimeter.analysis.evaluation import overall
from dosimeter.analysis.flips import epsilon50
from dosimeter.analysis.marks import with_marks
from dosimeter.analysis.physical import physical_accuracy
from dosimeter.presentation.section import rows_of
from dosimeter.record.table import Responses


class Quoted:
    """Tables of a run, each made when it is first asked for; its names must be in force (`analysis.names.of`)."""

    def __init__(self, responses: Responses) -> None:
        """Take the rows and facts of a finished run."""
        self.responses = responses
        self._rows = rows_of(responses)

    @property
    def meta(self) -> dict[str, Any]:
        """The run's facts."""
        return self.responses.meta

    @cached_property
    def every(self) -> pd.DataFrame:
        """The rows of every attack, and of their worst case."""
        return self._rows.every

    @cached_property
    def clean(self) -> pd.DataFrame:
        """Metrics without attack, see `clean.clean_metrics`."""
        return without_scores(clean_metrics(self.responses.frame), self.responses.meta)

    @property
    def physical_rows(self) -> pd.DataFrame:
        """The rows of physical changes."""
        return self._rows.physical

    @cached_property
    def physical(self) -> pd.DataFrame:
        """Accuracy at every severity of each physical change, see `physical.physical_accuracy`."""
        return physical_accuracy(self._rows.physical)

    @cached_property
    def _judged(self) -> dict[str, pd.DataFrame]:
        tables = {"robust_accuracy": robust_accuracy(self.every), "epsilon50": epsilon50(self.every)}
        trust = registry.get("sections", "trust")
        return with_marks(tables | trust.tables(self._rows), trust.unattacked)

    @property
    def robust(self) -> pd.DataFrame:
        """Accuracy under every attack, see `attacks.robust_accuracy`, with the verdict on each evaluation."""
        return self._judged["robust_accuracy"]

    @property
    def half(self) -> pd.DataFrame:
        """Where half of the images have flipped, see `flips.epsilon50`, with the verdict on each evaluation."""
        return self._judged["epsilon50"]

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The verdict on every evaluation, see `evaluation.overall`; no row where none was judged."""
        judged = self._judged.get("evaluation", pd.DataFrame())
        return overall(judged) if len(judged) else pd.DataFrame(columns=[*MODEL, "preset", "verdict", "because"])

    @property
    def headline(self) -> float | None:
        """The epsilon that a run is quoted at, the middle one of the paper's three; None without attack."""
        doses = reported_doses(self.robust["epsilon"])
        return doses[len(doses) // 2] if doses else None
