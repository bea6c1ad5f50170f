"""Checks of what the pre-flight measured: does the classifier answer an attack as it would answer anyone?"""

from dosimeter.analysis.checks import CAUTION, PASS, UNRELIABLE, Finding, Rule, Trial, checker, of, worse
from dosimeter.analysis.intervals import wilson
from dosimeter.analysis.wording import percent

RULES: list[Rule] = []
check = checker(RULES)

BY_LOSS = ("gradient", "step", "unbounded")
"""What a pre-flight measures of the loss that it was given, and of no other."""

AUTOATTACK = "AutoAttack's own checks (Croce and Hein 2020, arXiv 2003.01690)"
CARLINI = "Carlini et al. 2019, arXiv 1902.06705"
OBFUSCATED = "Athalye et al. 2018, arXiv 1802.00420"
INDICATORS = "Pintor et al. 2022, arXiv 2106.09947"
OURS = "thresholds are ours"

RELATIVE = 1e-4  # of the logits' size: more is not rounding
MANY = 0.01
PIXELS = 0.10
SATURATED = 0.20
WRONG_SIGN = 0.05
OFF = 0.20
CHANCE = 0.5
POINTS = 0.005  # that an accuracy may be off without a reason
FAR_OFF = 0.05


def is_random(trial: Trial) -> bool:
    """Whether the same image gets other logits in another pass; then smaller things cannot be told from chance."""
    fact = trial.measured("randomness")
    return fact is not None and fact["largest"] > RELATIVE


# --- answers ------------------------------------------------------------------------------------------------


@check(
    "Everything is in evaluation mode",
    rule="UNRELIABLE if a dropout or batch normalisation is in training mode, CAUTION if another module is",
    source="Foolbox issue 74, torchattacks issue 21",
    remedy="Call `classifier.eval()` before it is attacked.",
)
def evaluation_mode(trial: Trial) -> Finding | None:
    """Judge the modules in training mode."""
    if (fact := trial.measured("training")) is None:
        return None
    kinds = f" ({', '.join(fact['kinds'])})" if fact["kinds"] else ""
    verdict = worse(unreliable=fact["matter"] > 0, caution=fact["training"] > 0)
    return Finding(verdict, f"{fact['training']} of {fact['n']} modules are in training mode{kinds}.")


@check(
    "The same image gets the same answer",
    rule="CAUTION if logits differ by more than 1e-4 of their size between 5 passes, UNRELIABLE if a prediction does",
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
    "Outputs are logits",
    rule="CAUTION if all outputs are in [0, 1] and sum to 1 (to 1e-5), or are such beside a column of zeros; "
    "UNRELIABLE if one is not finite",
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
        f"The outputs of {fact['n']} images look like {looks[fact['look']]}"
        + (f"; of {of(bad, fact['n'])} they are not finite." if bad else "."),
    )


@check(
    "Probabilities are not saturated",
    rule="CAUTION if more than 20 % of the images have a probability above 1 - 1e-6 in float32",
    source=f"DEEPSEC issue 3, CleverHans issue 350; {OURS}",
    remedy="Attack the margin of the logits (preset `sound`), never a cross-entropy, and read nothing into "
    "probabilities.",
)
def saturation(trial: Trial) -> Finding | None:
    """Judge how many softmax outputs are 1 in all but name."""
    if (fact := trial.measured("outputs")) is None:
        return None
    share = fact["saturated"] / fact["n"]
    return Finding(
        worse(unreliable=False, caution=share > SATURATED),
        f"The softmax of {of(fact['saturated'], fact['n'])} is above 1 - 1e-6.",
    )


@check(
    "Accuracy without attack is the declared one",
    rule="CAUTION if it differs from the user's figure by more than 0.5 points and 1 image (of a sample: if the figure "
    "is outside its 95 % interval) or is below the share of the larger class; UNRELIABLE if by more than 5 points, or "
    "if its interval is below that share",
    source=f"Foolbox issue 575; {OURS}",
    remedy="Look for a normalisation done twice or not at all, another range, BGR for RGB, classes in another order.",
)
def clean_accuracy(trial: Trial) -> Finding | None:
    """Judge accuracy on all images that were attacked, or on the pre-flight's sample if none was."""
    fact = trial.measured("accuracy") or {}
    if not fact and trial.accuracy is None:
        return None
    correct, larger, n = trial.accuracy or (fact["correct"], fact["majority"], fact["n"])
    whole = not trial.facts.get("sampled") and (trial.accuracy is not None or fact["n"] == fact["n_cohort"])
    share, majority = correct / n, larger / n
    low, high = (float(bound) for bound in wilson(correct, n))
    measured = f"{of(correct, n)} are classified correctly"
    verdict = worse(unreliable=high < majority, caution=share < majority)
    measured += f", below the larger class's share, {percent(majority)}" if verdict != PASS else ""
    if (declared := fact.get("declared")) is None:
        return Finding(verdict, f"{measured}; no figure was declared.")
    apart = abs(share - declared)
    differs = apart > max(POINTS, 1 / n) if whole else not low <= declared <= high
    far = differs and (apart > FAR_OFF if whole else not low - FAR_OFF <= declared <= high + FAR_OFF)
    verdict = worse(unreliable=far or verdict == UNRELIABLE, caution=differs or verdict == CAUTION)
    return Finding(verdict, f"{measured}; declared were {percent(declared)}.")


# --- gradients ----------------------------------------------------------------------------------------------


@check(
    "A gradient reaches the image",
    rule="UNRELIABLE if not",
    source=INDICATORS,
    remedy="Make the layer that stops it differentiable, or let it pass the gradient on unchanged (BPDA, arXiv "
    "1802.00420); until then only black-box attacks say anything.",
)
def gradient(trial: Trial) -> Finding | None:
    """Judge whether there is a gradient at all."""
    if (fact := trial.measured("graph")) is None:
        return None
    if fact["error"]:
        return Finding(UNRELIABLE, f"There is no gradient from logits to image: {fact['error']}.")
    return Finding(PASS, f"The logits of {fact['n']} images were differentiated.")


@check(
    "Gradients are finite",
    rule="CAUTION if one is not, UNRELIABLE if those of more than 1 % are not",
    source=f"{INDICATORS}; {OURS}",
    remedy="Look for a logarithm of 0, a division by 0, or logits beyond float32.",
)
def finite_gradient(trial: Trial) -> Finding | None:
    """Judge gradients that are infinite or not a number."""
    if (fact := trial.measured("gradient")) is None:
        return None
    bad = fact["not_finite"]
    return Finding(
        worse(unreliable=bad > MANY * fact["n"], caution=bad > 0),
        f"The gradients of {of(bad, fact['n'])} are not finite.",
    )


@check(
    "Pixels have a gradient",
    rule="CAUTION if more than 10 % of the pixels have a gradient of exactly 0, in images whose gradient is not all 0",
    source=f"{INDICATORS}; {OURS}",
    remedy="Look for a crop, a mask or a threshold inside the classifier; a sign attack leaves such pixels alone.",
)
def zero_pixels(trial: Trial) -> Finding | None:
    """Judge the share of pixels that a sign attack cannot move."""
    fact = trial.measured("gradient")
    if fact is None or not fact["n_pixels"]:
        return None
    share = fact["zero_pixels"] / fact["n_pixels"]
    return Finding(
        worse(unreliable=False, caution=share > PIXELS),
        f"{percent(share)} of the pixels of {fact['n']} images have a gradient of exactly 0.",
    )


@check(
    "An attack of epsilon 0 changes nothing",
    rule="UNRELIABLE if logits on the attack's way differ from plain ones by more than 1e-4 of their size, or if a "
    "prediction does",
    source=f"torchattacks issue 172; {OURS}",
    remedy="The classifier behaves otherwise when it is differentiated: look for `is_grad_enabled`, `requires_grad`, "
    "or preprocessing that only one of the two ways has.",
)
def epsilon_zero(trial: Trial) -> Finding | None:
    """Judge whether attacks meet the classifier that answers; not of a random classifier."""
    fact = trial.measured("identity")
    if fact is None or is_random(trial):
        return None
    return Finding(
        worse(unreliable=fact["changed"] > 0 or fact["largest"] > RELATIVE, caution=False),
        f"On the attack's way {of(fact['changed'], fact['n'])} change their prediction; logits differ by up to "
        f"{fact['largest']:.1g} of their size.",
    )


@check(
    "The gradient agrees with finite differences",
    rule="CAUTION if the margin falls somewhere where the gradient says that it rises, UNRELIABLE if for more than 5 % "
    "of the images, at least 2; CAUTION if for more than 20 % its slope is off by more than a quarter of the "
    "gradient's size; along the gradient's sign and along random signs",
    source=f"cf. {CARLINI}; {OURS}",
    remedy="Some layer's backward pass is not the derivative of its forward pass: compare them one by one with "
    "`torch.autograd.gradcheck`.",
)
def finite_differences(trial: Trial) -> Finding | None:
    """Judge central differences of the margin; not of a random classifier."""
    fact = trial.measured("differences")
    if fact is None or is_random(trial):
        return None
    n, n_random = fact["n"], fact["n_random"]
    wrong = [(fact["wrong"], n), (fact["wrong_random"], n_random)]
    off = fact["off"] > OFF * n or fact["off_random"] > OFF * n_random
    return Finding(
        worse(
            unreliable=any(k > max(WRONG_SIGN * total, 1) for k, total in wrong),
            caution=off or any(k > 0 for k, _ in wrong),
        ),
        f"Along the gradient the slope has the wrong sign for {fact['wrong']} and is off for {fact['off']} of {n} "
        f"images; along random signs for {fact['wrong_random']} and {fact['off_random']} of {n_random}.",
    )


@check(
    "The loss rises along its gradient",
    rule="CAUTION if a step of one grey level (1/255) lowers it for more than 5 % of the images",
    source=f"cf. {CARLINI}; {OURS}",
    remedy="The loss bends within a grey level, so one step says little: use an iterative attack.",
)
def loss_rises(trial: Trial) -> Finding | None:
    """Judge the loss after one grey level against what its gradient promised; not of a random classifier."""
    fact = trial.measured("step")
    if fact is None or is_random(trial):
        return None
    return Finding(
        worse(unreliable=False, caution=fact["fallen"] > WRONG_SIGN * fact["n"]),
        f"After one grey level it is lower for {of(fact['fallen'], fact['n'])}; the median rise is "
        f"{fact['median_ratio']:.2g} times what the gradient promises.",
    )


@check(
    "An attack without a bound breaks everything",
    rule="CAUTION if PGD with epsilon 1 and 50 steps leaves a correctly classified image, UNRELIABLE if it leaves more "
    "than half",
    source=f"{CARLINI}; {OBFUSCATED}; ART's security curve (accuracy above chance)",
    remedy="The gradient does not lead to adversarial images that must exist. Attack the margin of the logits; find "
    "the layer that hides it.",
)
def unbounded(trial: Trial) -> Finding | None:
    """Judge what an attack leaves that may do anything."""
    if (fact := trial.measured("unbounded")) is None:
        return None
    return Finding(
        worse(unreliable=fact["left"] > CHANCE * fact["n"], caution=fact["left"] > 0),
        f"PGD with epsilon 1 leaves {of(fact['left'], fact['n'], 'correctly classified images')}.",
    )
