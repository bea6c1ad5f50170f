"""What a paper shows of the verdicts on the evaluations."""

import pandas as pd

from dosimeter.analysis.evaluation import evaluation_name, overall
from dosimeter.presentation.choices import CLASSIFIER
from dosimeter.presentation.paper import Field, PaperTable


def verdicts(checks: pd.DataFrame) -> pd.DataFrame:
    """Return the verdict on every evaluation, with the checks that say so."""
    found = overall(checks)
    return found.assign(family=[evaluation_name(preset, found["preset"]) for preset in found["preset"]])


EVALUATION = PaperTable(
    keys=(*CLASSIFIER, Field("Evaluation", "family", "words")),
    numbers=(Field("Verdict", "verdict", "words"), Field("Not passed", "because", "words")),
    rows=verdicts,
)
