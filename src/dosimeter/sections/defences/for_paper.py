"""What a paper shows of defences: what each is worth, what is left at each epsilon, what detectors see."""

import pandas as pd

from dosimeter.presentation.choices import COHORT, EPSILON, PROTOCOL, WILSON, N, at_doses
from dosimeter.presentation.paper import Field, PaperTable
from dosimeter.record.compact import UNDEFENDED

_DEFENDED = (COHORT, PROTOCOL, Field("Model", "undefended", "model"), Field("Defence", "defence", "words"))


def under_attack(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows under attack at the reported epsilons; without a defence there is no difference to none."""
    table = at_doses(table)
    bare = table["defence"] == UNDEFENDED
    return table[table["epsilon"] > 0].assign(difference=table["difference"].mask(bare))


def passing_most(table: pd.DataFrame) -> pd.DataFrame:
    """Return at the reported epsilons, for each attacker, the attack that gets most past the detector."""
    table = at_doses(table).sort_values("passed", ascending=False, kind="stable")
    keys = [name for name in ("cohort", "protocol", "model", "seed", "attacker", "epsilon") if name in table]
    return table.drop_duplicates(keys).sort_values(keys, kind="stable")


PAPER = {
    "defences": PaperTable(
        keys=_DEFENDED,
        numbers=(
            N,
            Field("Accuracy\n%", "accuracy", "percent", "accuracy", attacked=False),
            Field("Refused\n%", "refused", "percent", "refused", attacked=False),
            Field("Epsilon50\n10⁻³", "epsilon50", "thousandths", "epsilon50"),
            Field("Verdict", "verdict", "words"),
        ),
        interval="95 % intervals by patient",
        note="Accuracy and refusals are without attack; epsilon50 is of the worst attack, a dash: beyond the largest "
        "epsilon asked",
    ),
    "defence_accuracy": PaperTable(
        keys=(*_DEFENDED, EPSILON),
        numbers=(
            N,
            Field("Attacker\nknows it", "known", "percent", low="known_low", high="known_high"),
            Field("Does not\nknow it", "unknown", "percent", low="unknown_low", high="unknown_high"),
            Field("Worst\nof both", "worst", "percent", low="worst_low", high="worst_high"),
            Field("To none\npoints", "difference", "points", "difference"),
        ),
        interval=f"{WILSON}, of the paired difference to no defence those of paired proportions",
        rows=under_attack,
        note="Right answers in percent of the test images",
    ),
    "detection": PaperTable(
        keys=(COHORT, PROTOCOL, Field("Model", "model", "model"), Field("Attacker", "attacker", "words"), EPSILON),
        numbers=(
            N,
            Field("AUC of\nthe alarm", "auc", "decimal", "auc"),
            Field("Refused\n%", "flagged", "percent", "flagged"),
            Field("Passed\n%", "passed", "percent", "passed"),
        ),
        interval="95 % intervals by patient",
        rows=passing_most,
        note="Of several attacks the one that gets most past the detector; passed: answered wrongly and not refused",
    ),
}
