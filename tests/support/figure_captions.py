"""The caption of a figure by its subject, as the report writes it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dosimeter.presentation.section import Drawing
from dosimeter.report.figures import caption
from dosimeter.sections.attacks import captions as of_attacks
from dosimeter.sections.figures import captions as of_study
from dosimeter.sections.readers.figures import readers_caption
from dosimeter.sections.repeats.figures import repeats_caption
from dosimeter.sections.storage.figures import survival_caption
from dosimeter.sections.visibility.figures import visibility_caption

Tables = Mapping[str, pd.DataFrame]
UNATTACKED = ("training", "roc", "metrics")


def caption_of(
    subject: str,
    tables: Tables,
    *,
    cohort: str = "xray-268",
    model: str = "vgg16",
    study: Mapping[str, Any] | None = None,
) -> str:
    said = {
        "training": lambda: of_study.training(),
        "pictures": lambda: of_study.pictures(cohort, model, positive=True),
        "drop": lambda: of_study.drop(cohort),
        "survival": lambda: survival_caption(tables["survival"]),
        "visibility": lambda: visibility_caption(tables["fgsm_accuracy"]),
        "repeats": lambda: repeats_caption(tables["repeats"], "paper"),
        "readers": lambda: readers_caption(study or {}),
    }.get(subject)
    module = of_study if hasattr(of_study, subject) else of_attacks
    sentences = said() if said else getattr(module, subject)(tables)
    return caption(Drawing(subject, "", Figure, sentences, attacked=subject not in UNATTACKED), tables)
