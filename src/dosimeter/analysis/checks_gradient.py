"""Checks of what the pre-flight measured of gradients: do they lead to adversarial images?"""

from typing import Any

from dosimeter.analysis.checks import CAUTION, PASS, UNRELIABLE, Finding, Rule, Trial, beyond, checker, of, worse
from dosimeter.analysis.checks_before import CARLINI, INDICATORS, OBFUSCATED, OURS, RELATIVE, is_random
from dosimeter.analysis.wording import n_images, percent

RULES: list[Rule] = []
check = checker(RULES)

BY_LOSS = ("gradient", "step", "unbounded")
"""What a pre-flight measures of the loss that it was given, and of no other."""

MANY = 0.01
WRONG_SIGN = 0.05
OFF = 0.20
TENTH = 0.10


def is_constant(trial: Trial) -> bool:
    """Whether every image examined gets the same logits: then a gradient of 0 is true, and there is nothing to hide."""
    fact = trial.measured("outputs")
    return fact is not None and bool(fact.get("constant"))


@check(
    "A gradient reaches the image",
    rule="UNRELIABLE if not (CAUTION if all images get the same logits: then there is none to reach them; CAUTION if "
    "the classifier can only be asked for scores or labels: no attacker of it has one)",
    source=INDICATORS,
    remedy="Of a classifier that is only asked bring the network itself, if you have it. Of a network make the layer "
    "that stops the gradient differentiable, or let it pass the gradient on unchanged (BPDA, arXiv 1802.00420). Until "
    "then only black-box attacks say anything.",
)
def gradient(trial: Trial) -> Finding | None:
    """Judge whether there is a gradient at all."""
    if (fact := trial.measured("graph")) is None:
        return None
    if not trial.has_gradients:
        gives = "scores" if fact["access"] == "scores" else "labels"
        return Finding(
            CAUTION,
            f"It is only asked, and gives {gives}: attacks were those that need no more. One who has its network may "
            "do better.",
        )
    if fact["error"] and is_constant(trial):
        return Finding(
            CAUTION, f"There is no gradient from logits to image; the logits of {n_images(fact['n'])} are the same."
        )
    if fact["error"]:
        return Finding(UNRELIABLE, f"There is no gradient from logits to image: {fact['error']}.")
    return Finding(PASS, f"The logits of {n_images(fact['n'])} were differentiated.")


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
    "Pixels without a gradient have no effect",
    rule="where more than 1 % of an image's pixels have a gradient of exactly 0: UNRELIABLE if the margin moves along "
    "random signs of these pixels alone, by more than a quarter of what it would if they had a gradient like the "
    "others', for so many directions that it is a chance below 2 % if 20 % were; CAUTION if for more than 20 %; not "
    "where another gradient than the derivative is declared",
    source=f"cf. {INDICATORS}; {OURS}",
    remedy="A part of the image is cut off from the gradient (a `detach`, a mask, a threshold): let it through.",
)
def still_pixels(trial: Trial) -> Finding | None:
    """Judge the pixels that a sign attack does not move; not of a random classifier, nor of a declared gradient."""
    fact = trial.measured("still")
    if fact is None or is_random(trial) or trial.measured("declared") is not None:
        return None
    moved, n, pixels = fact["moved"], fact["n"], trial.measured("gradient")
    share = (
        f"{percent(pixels['zero_pixels'] / pixels['n_pixels'])} of the pixels"
        if pixels and pixels["n_pixels"]
        else "Pixels"
    )
    return Finding(
        worse(unreliable=beyond(moved, n, OFF), caution=moved > OFF * n),
        f"{share} have a gradient of exactly 0; along {of(moved, n, 'directions')} of these alone the margin moves.",
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
    "The same image gets the same gradient",
    rule="CAUTION if it points elsewhere (a cosine below 0.9) in one of 5 passes (2 if alike), UNRELIABLE if "
    "for more than 1 image",
    source=f"cf. {OBFUSCATED} (stochastic gradients); {OURS}",
    remedy="Attacks follow chance. Average the gradient over many draws (expectation over transformation, arXiv "
    "1707.07397), or find the layer whose backward pass draws random numbers.",
)
def repeated_gradient(trial: Trial) -> Finding | None:
    """Judge how gradients of repeated passes differ."""
    if (fact := trial.measured("repeated_gradient")) is None:
        return None
    return Finding(
        worse(unreliable=fact["changed"] > max(MANY * fact["n"], 1), caution=fact["changed"] > 0),
        f"In {fact['passes']} passes {of(fact['changed'], fact['n'])} have gradients that point elsewhere; the lowest "
        f"cosine is {fact['lowest']:.2f}.",
    )


@check(
    "The gradient agrees with finite differences",
    rule="along the gradient's sign and along random signs: CAUTION if for more than 5 % of the images, and more than "
    "1, the margin falls where the gradient says that it rises, UNRELIABLE if for so many that it is a chance below 2 "
    "% if 5 % were (3 of 8, 4 of 16); CAUTION if for more than 20 % its slope is off by more than a quarter of the "
    "gradient's size, UNRELIABLE if for so many that it is a chance below 2 % if 20 % were (5 of 8, 8 of 16). Where a "
    "defence declares that its gradient is approximate or averaged it is for attacks without it to judge, a black box "
    "or images made on another network: CAUTION if none was tried",
    source=f"cf. {CARLINI}; {OURS}",
    remedy="Some layer's backward pass is not the derivative of its forward pass: compare them one by one with "
    "`torch.autograd.gradcheck`.",
)
def finite_differences(trial: Trial) -> Finding | None:
    """Judge central differences of the margin; not of a random classifier, nor where another gradient is declared."""
    fact = trial.measured("differences")
    if (declared := trial.measured("declared")) is not None:
        return _declared(trial, declared)
    if fact is None or is_random(trial):
        return None
    kinds = [(fact["wrong"], fact["off"], fact["n"]), (fact["wrong_random"], fact["off_random"], fact["n_random"])]
    return Finding(
        worse(
            unreliable=any(beyond(wrong, n, WRONG_SIGN) or beyond(off, n, OFF) for wrong, off, n in kinds),
            caution=any(wrong > max(WRONG_SIGN * n, 1) or off > OFF * n for wrong, off, n in kinds),
        ),
        f"Along the gradient the slope has the wrong sign for {fact['wrong']} and is off for {fact['off']} of "
        f"{fact['n']} images; along random signs for {fact['wrong_random']} and {fact['off_random']} of "
        f"{fact['n_random']}.",
    )


def _declared(trial: Trial, fact: dict[str, Any]) -> Finding:
    """Return the finding of a gradient that is said not to be the derivative of the answers."""
    kinds = [f"{kind} ({', '.join(fact[kind])})" for kind in ("approximate", "averaged") if fact[kind]]
    others = [
        *(["the black box"] if trial.of("black box") else []),
        *(["images made on another network"] if trial.transfers else []),
    ]
    judged = f"whether it misleads, {' and '.join(others)} must show" if others else "nothing was tried without it"
    return Finding(PASS if others else CAUTION, f"The gradient is declared to be {' and '.join(kinds)}; {judged}.")


@check(
    "The loss rises along its gradient",
    rule="CAUTION if a step of one grey level (1/255) lowers it for more than 5 % of the images and more than 1, "
    "UNRELIABLE if for so many that it is a chance below 2 % if 20 % were (8 of 16)",
    source=f"cf. {CARLINI}; {OURS}",
    remedy="The loss bends within a grey level, so its gradient says little of what a visible step does: average "
    "gradients over noise, and try a black box.",
)
def loss_rises(trial: Trial) -> Finding | None:
    """Judge the loss after one grey level against what its gradient promised; not of a random classifier."""
    fact = trial.measured("step")
    if fact is None or is_random(trial):
        return None
    fallen, n = fact["fallen"], fact["n"]
    return Finding(
        worse(unreliable=beyond(fallen, n, OFF), caution=fallen > max(WRONG_SIGN * n, 1)),
        f"After one grey level it is lower for {of(fallen, n)}; the median rise is {fact['median_ratio']:.2g} times "
        "what the gradient promises.",
    )


@check(
    "An attack without a bound breaks everything",
    rule="CAUTION if PGD with epsilon 1, in three ways, leaves a correctly classified image; UNRELIABLE if it leaves "
    "so many that it is a chance below 2 % if 10 % were left (5 of 16), unless every image examined gets the same "
    "class: then there need be no adversarial image",
    source=f"{CARLINI}; {OBFUSCATED}; ART's security curve (accuracy above chance)",
    remedy="Adversarial images must exist, unless every image gets the same class, and the gradient does not lead to "
    "them. Attack the margin of the logits; find the layer that hides it.",
)
def unbounded(trial: Trial) -> Finding | None:
    """Judge what an attack leaves that may do anything."""
    if (fact := trial.measured("unbounded")) is None:
        return None
    left, n = fact["left"], fact["n"]
    one = trial.clean is not None and trial.clean.n_answers == 1
    return Finding(
        worse(unreliable=beyond(left, n, TENTH) and not one, caution=left > 0),
        f"PGD with epsilon 1 leaves {of(left, n, 'correctly classified images')}.",
    )
