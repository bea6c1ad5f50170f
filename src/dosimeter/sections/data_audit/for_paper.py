"""What a paper shows of the audit of the images: the checks, what tells the label, and who is in the cohort."""

import pandas as pd

from dosimeter.presentation.choices import COHORT, PROTOCOL, N
from dosimeter.presentation.paper import Field, PaperTable

_TRIAL = (COHORT, PROTOCOL)


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with their count under a name of its own: it is no number of images that all rows share."""
    return table.rename(columns={"n": "images"})


PAPER = {
    "data_audit": PaperTable(
        keys=(*_TRIAL, Field("Check", "title", "words")),
        numbers=(Field("Verdict", "level", "words"), Field("Measured", "measured", "words")),
    ),
    "data_probes": PaperTable(
        keys=(*_TRIAL, Field("Told by", "name", "words"), Field("What is told", "target", "words")),
        numbers=(
            N,
            Field("Patients\nor groups", "n_groups", "count"),
            Field("AUC", "auc", "decimal", low="low", high="high"),
            Field("Labels\npermuted", "permuted", "decimal"),
        ),
        interval="95 % intervals by patient",
    ),
    "data_subgroups": PaperTable(
        keys=(*_TRIAL, Field("Fact", "fact", "words"), Field("Value", "value", "words")),
        numbers=(Field("Images", "images", "count"),),
        across=(Field("Class", "class", "words"),),
        rows=counted,
    ),
}
