"""Checks of what the pre-flight asked: does the classifier answer an attack as it would answer anyone?"""

from dosimeter.analysis.checks import (
    CAUTION,
    PASS,
    Finding,
    Rule,
    Trial,
    broken,
    checker,
    of,
    worse,
)
from dosimeter.analysis.wording import n_images, percent

RULES: list[Rule] = []
check = checker(RULES)

AUTOATTACK = "AutoAttack's own checks (Croce and Hein 2020, arXiv 2003.01690)"
CARLINI = "Carlini et al. 2019, arXiv 1902.06705"
OBFUSCATED = "Athalye et al. 2018, arXiv 1802.00420"
INDICATORS = "Pintor et al. 2022, arXiv 2106.09947"
OURS = "thresholds are ours"

RELATIVE = 1e-4  # of the logits' size: more is not rounding
SATURATED = 0.20
POINTS = 0.005  # that an accuracy may be off without a reason
FAR_OFF = 0.05
HARMLESS = "the attacks climb the margin, which does not saturate with it, and every image breaks"


def is_random(trial: Trial) -> bool:
    """Whether smaller things cannot be told from chance.

    The same image gets other logits in another pass, or has draws of its own and says so: its neighbour has others.
    """
    fact, declared = trial.measured("randomness"), trial.measured("declared")
    return (fact is not None and fact["largest"] > RELATIVE) or (declared is not None and bool(declared["averaged"]))


@check(
    "Everything is in evaluation mode",
    rule="UNRELIABLE if a dropout or batch normalisation is in training mode, CAUTION if other modules are and an "
    "image gets another answer in evaluation mode (logits differ by more than 1e-4 of their size)",
    source="Foolbox issue 74, torchattacks issue 21",
    remedy="Call `classifier.eval()` before it is attacked.",
)
def evaluation_mode(trial: Trial) -> Finding | None:
    """Judge the modules in training mode."""
    if (fact := trial.measured("training")) is None:
        return None
    kinds = f" ({', '.join(fact['kinds'])})" if fact["kinds"] else ""
    differ, asked = fact.get("differ", fact["training"]), fact.get("n_asked", 0)
    changes = f"; out of it {of(differ, asked)} get another answer" if asked else ""
    verdict = worse(unreliable=fact["matter"] > 0, caution=differ > 0)
    return Finding(verdict, f"{fact['training']} of {fact['n']} modules are in training mode{kinds}{changes}.")


@check(
    "The same image gets the same answer",
    rule="CAUTION if logits differ by more than 1e-4 of their size between 5 passes (2 if alike), UNRELIABLE if "
    "a prediction does",
    source=f"{AUTOATTACK}; that a changed prediction makes it unreliable is ours",
    remedy="Switch the randomness off, or average gradients and answers over many draws (expectation over "
    "transformation, arXiv 1707.07397).",
)
def randomness(trial: Trial) -> Finding | None:
    """Judge how repeated passes differ."""
    if (fact := trial.measured("randomness")) is None:
        return None
    return Finding(
        worse(unreliable=fact["changed"] > 0, caution=fact["largest"] > RELATIVE),
        f"Between {fact['passes']} passes {of(fact['changed'], fact['n'])} change their prediction; logits differ by "
        f"up to {fact['largest']:.1g} of their size.",
    )


@check(
    "An image's answer does not depend on its batch",
    rule="CAUTION if logits differ by more than 1e-4 of their size between an image alone and in a batch, UNRELIABLE "
    "if a prediction does",
    source=f"TRADES issue 3; {OURS}",
    remedy="Find what looks at the whole batch: a batch normalisation in training mode, a scaling by the batch's "
    "largest value.",
)
def batching(trial: Trial) -> Finding | None:
    """Judge single images against batches; not of a random classifier."""
    fact = trial.measured("batching")
    if fact is None or is_random(trial):
        return None
    return Finding(
        worse(unreliable=fact["changed"] > 0, caution=fact["largest"] > RELATIVE),
        f"Alone, {of(fact['changed'], fact['n'])} have another prediction than in batches of {fact['batch']}; logits "
        f"differ by up to {fact['largest']:.1g} of their size.",
    )


@check(
    "An image is answered as what is all but the same",
    rule="CAUTION if the margin of an image jumps when its pixels move by 1e-4 of the range (by more than ten times "
    "what its gradient allows, and a tenth of the logits' distance), UNRELIABLE if those of more than 1 image do",
    source=OURS,
    remedy="The classifier recognises exact images, or draws its answer from their last digits: what it says of an "
    "image says nothing of the next. Take out what looks at exact values.",
)
def neighbours(trial: Trial) -> Finding | None:
    """Judge images against what nobody can tell from them; not of a random classifier."""
    fact = trial.measured("neighbours")
    if fact is None or is_random(trial):
        return None
    jumps, n = fact["jumps"], fact["n"]
    return Finding(
        worse(unreliable=jumps > 1, caution=jumps > 0),
        f"With pixels moved by {fact['by']:g} the margin of {of(jumps, n)} jumps, and {fact['changed']} change their "
        "prediction.",
    )


@check(
    "Outputs are logits",
    rule="CAUTION if all outputs are in [0, 1] and sum to 1 (to 1e-5), or stay in [0, 1] also for noise far outside "
    "the image range; UNRELIABLE if one is not finite",
    source=AUTOATTACK,
    remedy="Hand over what goes into the softmax or sigmoid. Probabilities near 0 or 1 have next to no gradient.",
)
def logits(trial: Trial) -> Finding | None:
    """Judge what outputs look like."""
    if (fact := trial.measured("outputs")) is None:
        return None
    looks = {"softmax": "probabilities of a softmax", "sigmoid": "probabilities of a sigmoid", "logits": "logits"}
    bad = fact["not_finite"]
    return Finding(
        worse(unreliable=bad > 0, caution=fact["look"] != "logits"),
        f"The outputs of {n_images(fact['n'])} look like {looks[fact['look']]}"
        + (f"; of {of(bad, fact['n'])} they are not finite." if bad else "."),
    )


@check(
    "Saturated probabilities hide nothing",
    rule="CAUTION if more than 20 % of the images have a probability above 1 - 1e-6 in float32, unless attacks climb "
    "the margin of the logits, which does not saturate, and break every correctly classified image: PGD with epsilon "
    "1, or all of them together at their largest epsilon",
    source=f"DEEPSEC issue 3, CleverHans issue 350; {OURS}",
    remedy="Attack the margin of the logits (preset `sound`), never a cross-entropy, and read nothing into "
    "probabilities.",
)
def saturation(trial: Trial) -> Finding | None:
    """Judge how many softmax outputs are 1 in all but name, and whether the attacks suffer from it."""
    if (fact := trial.measured("outputs")) is None:
        return None
    measured = f"The softmax of {of(fact['saturated'], fact['n'])} is above 1 - 1e-6"
    if fact["saturated"] <= SATURATED * fact["n"]:
        return Finding(PASS, f"{measured}.")
    suffers = _suffers(trial)
    return Finding(CAUTION if suffers else PASS, f"{measured}; {suffers or HARMLESS}.")


def _suffers(trial: Trial) -> str:
    """Return how attacks may suffer from saturated probabilities, "" if they do not."""
    losses = {curve.loss for curve in trial.attacks} - {"none"} or {str(trial.facts.get("loss"))}
    if "margin" not in losses:
        return f"the attacks climb {' and '.join(sorted(losses))}, which saturates with it"
    unbounded = trial.measured("unbounded")
    if unbounded is not None and unbounded["left"] == 0:
        return ""
    climbing = [curve for curve in trial.attacks if curve.loss == "margin"]
    return "" if climbing and bool(broken(climbing).broken[:, -1].all()) else "not every image breaks"


@check(
    "The classifier is better than the larger class",
    rule="CAUTION if the 95 % interval of its accuracy without attack contains the share of the larger class, or if "
    "it gives every image the same class; UNRELIABLE if the interval is below that share",
    source=f"Foolbox issue 575; {OURS}",
    remedy="Whatever always says the larger class does as well, so there is little that an attack can take away. If "
    "the classifier should be better, look for a normalisation done twice or not at all, another range, BGR for RGB, "
    "classes in another order. If there are few images, take more.",
)
def larger_class(trial: Trial) -> Finding | None:
    """Judge accuracy on all images that were attacked, or on the pre-flight's sample if none was."""
    if (clean := trial.clean) is None:
        return None
    low, high = clean.low, clean.high
    share, one = clean.larger / clean.n, clean.n_answers == 1 and clean.n > 1
    interval = "too few for an interval, as independent images" if clean.few else "95 % interval"
    same = "; every image is given the same class" if one else ""
    return Finding(
        worse(unreliable=high < share, caution=low <= share or one),
        f"{of(clean.correct, clean.n)} are classified correctly, {interval} {percent(low)} to {percent(high)}; the "
        f"larger class has {percent(share)}{same}.",
    )


@check(
    "Accuracy without attack is the declared one",
    rule="CAUTION if it differs from the user's figure by more than 0.5 points and 1 image (of a sample: if the "
    "figure is outside its 95 % interval); UNRELIABLE if by more than 5 points",
    source=f"Foolbox issue 575; {OURS}",
    remedy="Look for a normalisation done twice or not at all, another range, BGR for RGB, classes in another order.",
)
def clean_accuracy(trial: Trial) -> Finding | None:
    """Judge accuracy on all images that were attacked, or on the pre-flight's sample if none was."""
    fact, clean = trial.measured("accuracy") or {}, trial.clean
    if clean is None:
        return None
    measured = f"{of(clean.correct, clean.n)} are classified correctly"
    if (declared := fact.get("declared")) is None:
        return Finding(PASS, f"{measured}; no figure was declared.")
    whole = not trial.facts.get("sampled") and (trial.accuracy is not None or fact["n"] == fact["n_cohort"])
    low, high = clean.low, clean.high
    apart = abs(clean.correct / clean.n - declared)
    differs = apart > max(POINTS, 1 / clean.n) if whole else not low <= declared <= high
    far = differs and (apart > FAR_OFF if whole else not low - FAR_OFF <= declared <= high + FAR_OFF)
    return Finding(worse(unreliable=far, caution=differs), f"{measured}; declared were {percent(declared)}.")
