"""What the paper says, in our words, and where it says so: what `findings` holds this run's numbers against.

Source: Appl. Sci. 2021, 11, 4233. Nothing here is a quotation. Where the paper says nothing of a matter, that is said.
"""

from typing import NamedTuple

import pandas as pd

from dosimeter.analysis import paper
from dosimeter.analysis.names import model_name
from dosimeter.analysis.wording import HALF_GREY_LEVEL, percent


class Claim(NamedTuple):
    """What the paper claims, does or leaves out.

    Attributes:
        text: a paraphrase.
        source: table, figure or section.
    """

    text: str
    source: str


_TABLES = {"xray": ("3.1", "3.2", "4", "5", "7"), "ct": ("3.3", "3.4", "8", "9", "12")}
"""By modality: the sections of training and of the attack, the tables of accuracy and probability, and the figure."""


def claim(key: str, cohort: str, model: str = "", *, frozen: bool = False) -> Claim | None:
    """Return what the paper says of a matter; None if it does not speak of this cohort, network or matter.

    Args:
        key: that of a finding.
        cohort: its cohort.
        model: its network, "" for what concerns the whole cohort.
        frozen: of zero gradients: whether accuracy freezes here above that of the other loss.
    """
    if not paper.is_subject(cohort, model or None):
        return None
    modality = paper.COHORTS[cohort]
    training, attack, accuracy, drop, figure = _TABLES[modality]
    if key == "zero_gradient":
        return (_robust(modality, model) if frozen else None) or Claim(
            "Accuracy under FGSM counts the images that are still answered correctly; how many of them the attack "
            "moved at all is not told.",
            f"table {accuracy}",
        )
    if key == "rounded_away":
        return _unusable(modality, model) or Claim(
            f"FGSM is measured from epsilon {_smallest(modality):g} on, and the paper warns of deployment because of "
            "it; that a file rounds an image is not considered.",
            f"table {accuracy}, section 4",
        )
    if key == "no_untouched_test_set":
        return _validated(modality)
    n = _n_test(modality)
    rises = (
        Claim("The number of wrong answers increases with epsilon.", f"section {attack}, table {accuracy}, figure 7")
        if modality == "xray"
        else Claim("Accuracy falls with epsilon, or stays.", f"table {accuracy}, figure {figure}")
    )
    return {
        "colour_noise": Claim(
            "Images have three planes, and FGSM moves every value by the sign of its own gradient; that a grey image "
            "becomes coloured by it is not discussed.",
            "sections 2.3 to 2.5, equation 1",
        ),
        "not_monotone": rises,
        "survivor_bias": Claim(
            "The average probability drop is taken over the images answered correctly both before and after the "
            "attack, and tells how vulnerable a network is.",
            f"section {attack}, table {drop}",
        ),
        "small_test_set": Claim(
            f"Accuracies of {n} test images are given to two decimals, without an interval.", f"table {accuracy}"
        ),
        "patients_shared": Claim(
            "The images are split 80:20; whether a patient may be on both sides is not told.", f"section {training}"
        ),
    }[key]


def _robust(modality: str, model: str) -> Claim | None:
    """Return what the paper concludes where its accuracy freezes: of Inception-v3 alone."""
    if model != "inception_v3":
        return None
    rows = _published(modality, model)
    last = rows.iloc[-1]["accuracy_pct"]
    since = rows.loc[rows["accuracy_pct"] == last, "epsilon"].min()
    frozen = f"accuracy freezes at {last:.2f} %, from epsilon {since:g} on"
    if modality == "xray":
        text = f"Inception-v3 is found robust to FGSM in this task; its {frozen}."
        return Claim(text, "section 3.2, tables 4 and 5")
    text = f"Inception-v3 is found comparatively robust on the images it still answers correctly; its {frozen}."
    return Claim(text, "section 3.4, tables 8 and 9")


def _unusable(modality: str, model: str) -> Claim | None:
    """Return what the paper says of a dose below half a grey level: on CT, of Inception-v3."""
    dose = paper.shown({value: key for key, value in paper.COHORTS.items()}[modality], model)["invisible_epsilon"]
    if modality != "ct" or dose >= HALF_GREY_LEVEL:
        return None
    rows = _published(modality, model)
    share = float(rows.loc[rows["epsilon"] == dose, "accuracy_pct"].iloc[0]) / 100
    return Claim(
        f"Epsilon {dose:g} leaves {model_name(model)} an accuracy of {percent(share)} and makes it unusable; that a "
        "file rounds an image is not considered.",
        "section 3.4, table 8",
    )


def _validated(modality: str) -> Claim | None:
    if modality != "xray":
        return None
    return Claim(
        "The validation images were the test images, and the AUC that is named is that of the best performance.",
        "section 3.1, figure 4",
    )


def _published(modality: str, model: str) -> pd.DataFrame:
    table = paper.fgsm_accuracy()
    return table[(table["modality"] == modality) & (table["model"] == model)].sort_values("epsilon")


def _n_test(modality: str) -> int:
    row = _published(modality, paper.MODELS[0]).iloc[0]
    return int(row["correct"] + row["incorrect"])


def _smallest(modality: str) -> float:
    doses = _published(modality, paper.MODELS[0])["epsilon"]
    return float(doses[doses > 0].min())
