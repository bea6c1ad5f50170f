"""Checks of what the attacks did: is any of them weaker than it can be, where another shows that more was possible?

Strength is compared image by image, up to each epsilon: what breaks within a small ball is broken in any larger one.
Points are hundredths of all images.
"""

from collections.abc import Sequence

import numpy as np

from dosimeter.analysis.checks import (
    CAUTION,
    PASS,
    Curve,
    Excess,
    Finding,
    Rule,
    Trial,
    checker,
    excess,
    of,
    worse,
)
from dosimeter.analysis.checks_before import CARLINI, INDICATORS, OBFUSCATED, OURS
from dosimeter.analysis.checks_gradient import MANY, is_constant
from dosimeter.analysis.names import attack_kind
from dosimeter.analysis.wording import percent

RULES: list[Rule] = []
check = checker(RULES)

POINTS = 0.005
ONE_ONLY = 0.02
BLACK_BOX = 0.002
FEW_POINTS = 0.05
FAR_STRONGER = 0.25
UNCONVERGED = 0.10


@check(
    "Every image has an answer to every attack",
    rule="CAUTION if one has not, UNRELIABLE if more than 1 % have not; images that cannot be read do not count",
    source=f"{INDICATORS}; {OURS}",
    remedy="The `error` column says what failed: a gradient or logits that are not finite, as a rule.",
)
def answers(trial: Trial) -> Finding | None:
    """Judge images whose attack or whose answer failed."""
    if trial.failed is None:
        return None
    bad, n = trial.failed
    return Finding(worse(unreliable=bad > MANY * n, caution=bad > 0), f"{of(bad, n)} lack an answer to an attack.")


@check(
    "Gradients are not zero",
    rule="CAUTION if a correctly classified image has a gradient of exactly 0, UNRELIABLE if more than 1 % have "
    "(unless all images get the same logits: then it is 0 in truth)",
    source=f"{INDICATORS}; ART's gradient check; {OURS}",
    remedy="FGSM leaves such an image as it was, which says nothing of its robustness. Attack the margin of the "
    "logits (preset `sound`); if that is flat too, every image gets the same answer, or a layer rounds or cuts: see "
    "BPDA, arXiv 1802.00420.",
)
def zero_gradient(trial: Trial) -> Finding | None:
    """Judge gradients of exactly zero: of FGSM on all images, or of the pre-flight on its sample."""
    counts = [(int((curve.grad_zero & _right(curve)).sum()), int(_right(curve).sum())) for curve in trial.one_step]
    if not counts and (fact := trial.measured("gradient")) is not None:
        counts = [(fact["zero_right"], fact["n_right"])]
    counts = [(bad, n) for bad, n in counts if n]
    if not counts:
        return None
    bad, n = max(counts, key=lambda each: each[0] / each[1])
    return Finding(
        worse(unreliable=bad > MANY * n and not is_constant(trial), caution=bad > 0),
        f"The gradient of {of(bad, n, 'correctly classified images')} is exactly 0.",
    )


@check(
    "More than one step was tried",
    rule="CAUTION if no attack of the evaluation follows the gradient for more than one step; of a classifier that can "
    "only be asked, if none searches by its answers",
    source=f"{CARLINI}, section 5",
    remedy="Add iterative attacks, `--attack pgd --attack apgd`, and a black box, `--attack square`.",
)
def attacks(trial: Trial) -> Finding | None:
    """Judge which attacks there are."""
    if not trial.attacks:
        return None
    names = sorted({curve.attack for curve in trial.attacks})
    further = trial.many_steps or trial.of("other") or (not trial.has_gradients and trial.of("black box"))
    return Finding(PASS if further else CAUTION, f"Tried: {', '.join(names)}{'' if further else ' only'}.")


@check(
    "Many steps are as strong as one",
    rule="UNRELIABLE if FGSM leaves fewer images than the iterative attacks together, by more than 5 points and 1 "
    "image at some epsilon, CAUTION if by more than 0.5 points and 1 image; CAUTION if more than 2 % of the correctly "
    "classified images, and more than 1, are broken by FGSM alone",
    source=f"{OBFUSCATED}; {CARLINI}; {OURS}",
    remedy="Take more and smaller steps and several starts (`--effort thorough`); look for a gradient that is right "
    "only at the image itself.",
)
def iterative(trial: Trial) -> Finding | None:
    """Judge iterative and minimum-norm attacks together against FGSM."""
    beyond = excess(trial.one_step, trial.many_steps)
    if beyond is None:
        return None
    return Finding(
        worse(
            unreliable=_stronger(beyond, FEW_POINTS),
            caution=_stronger(beyond, POINTS) or beyond.only > max(ONE_ONLY * beyond.n_right, 1),
        ),
        f"{_compared(beyond, 'FGSM', 'the iterative attacks')} {_only(beyond, 'FGSM')}",
    )


@check(
    "More epsilon never helps the classifier",
    rule="UNRELIABLE if the accuracy under an iterative attack rises by more than 5 points and 1 image as epsilon "
    "grows, CAUTION if by more than 0.5 points and 1 image; FGSM may rise (its one step overshoots), which is noted; "
    "random searches are left out: what they miss is chance",
    source=f"{OBFUSCATED}; {CARLINI}",
    remedy="The attack misses in a larger ball what it found in a smaller one: more steps, smaller ones, more starts.",
)
def monotone(trial: Trial) -> Finding | None:
    """Judge rises of accuracy; by construction a search that stops at the first success has none to judge.

    Square is not among the exhaustive attacks: what a random search misses in a larger ball is chance.
    """
    searched = [curve for curve in trial.attacks if curve.searched and attack_kind(curve.attack).exhaustive]
    rises = [(*_rise(curve), curve.attack) for curve in (*searched, *trial.many_steps)]
    note = max((_rise(curve) for curve in trial.one_step), default=(0, 0.0, 0.0))
    if not searched and max(rises, default=(0,))[0] == 0 and note[0] == 0:
        return None
    rise, start, end, name = max(rises, default=(0, 0.0, 0.0, ""))
    sentences = []
    if rise:
        sentences.append(f"Under {name} {rise} images are right again at epsilon {end:g} that were wrong at {start:g}.")
    elif searched:
        sentences.append(f"Accuracy never rises under {', '.join(curve.attack for curve in searched)}.")
    if note[0]:
        sentences.append(
            f"Under FGSM accuracy rises by {note[0]} images from epsilon {note[1]:g} to {note[2]:g}, as one step may; "
            "the envelope counts an image as broken from its first flip on."
        )
    n = min((len(curve.cases) for curve in (*searched, *trial.many_steps)), default=0)
    verdict = worse(unreliable=rise > max(FEW_POINTS * n, 1), caution=rise > max(POINTS * n, 1))
    return Finding(verdict, " ".join(sentences))


@check(
    "No black box is stronger than the gradient",
    rule="UNRELIABLE if a black box leaves fewer images than the white box, by more than 5 points and 1 image (if the "
    "white box is FGSM alone: more than 25 points); CAUTION if by more than 0.2 points and 1 image, or if more than 1 "
    "% of the correctly classified images, and more than 1, are broken by the black box alone",
    source=f"AutoAttack's 0.2 points (Croce and Hein 2020, arXiv 2003.01690); {OBFUSCATED}; {OURS}",
    remedy="The gradient leads astray: find the layer that hides it, or report the black box's accuracy.",
)
def black_box(trial: Trial) -> Finding | None:
    """Judge score and decision attacks against gradient attacks."""
    return _outside(trial, trial.of("black box"), "the black box")


@check(
    "No image made on another network is stronger",
    rule="as for the black box",
    source=f"{CARLINI}; {OBFUSCATED}; {OURS}",
    remedy="This network's own gradient is worth less than another's: find the layer that hides it.",
)
def transfer(trial: Trial) -> Finding | None:
    """Judge adversarial images of other classifiers against this one's own."""
    return _outside(trial, trial.transfers, "images made on another network")


@check(
    "Noise breaks nothing that the gradient left",
    rule="CAUTION if random noise breaks an image that no gradient attack broke within the same epsilon, UNRELIABLE "
    "if more than 1 % of the correctly classified images and more than 1",
    source=f"{CARLINI}; OWASP AI testing guide; {OBFUSCATED}; {OURS}",
    remedy="A direction without knowledge beats the gradient: the gradient is hidden, or the classifier is random.",
)
def noise(trial: Trial) -> Finding | None:
    """Judge random signs and uniform noise against gradient attacks."""
    beyond = excess(trial.controls, _white(trial))
    if beyond is None:
        return None
    return Finding(
        worse(unreliable=beyond.only > max(MANY * beyond.n_right, 1), caution=beyond.only > 0),
        _only(beyond, "noise"),
    )


@check(
    "Attacks break what they say, and say what they break",
    rule="CAUTION if more than 1 % of the correctly classified images, and more than 1, are answered rightly though "
    "an attack claims them, or wrongly though it does not; UNRELIABLE if claims fail for more than 5 %, and more than "
    "1",
    source=f"{INDICATORS}; {OURS}",
    remedy="Answers differ between the attack and the sweep: look for randomness, and for images that change when "
    "they are stored. Broken images count as broken whether or not they were claimed.",
)
def silent_success(trial: Trial) -> Finding | None:
    """Judge the attacks' own claims against the answers, over all epsilons."""
    claims = [_claims(curve) for curve in trial.attacks if not np.isnan(curve.found[:, 1:]).all()]
    claims = [each for each in claims if each[2]]
    if not claims:
        return None
    empty, silent, n = (max(column) for column in zip(*claims, strict=True))
    return Finding(
        worse(unreliable=empty > max(FEW_POINTS * n, 1), caution=max(empty, silent) > max(MANY * n, 1)),
        f"Of {n} correctly classified images {empty} are answered rightly though an attack claims them, and {silent} "
        "wrongly though it does not.",
    )


@check(
    "More effort would break no more",
    rule="CAUTION if twice the steps, or five starts or more, break more than 1 of the images examined, which is "
    "worth more than 0.5 points; UNRELIABLE if it is worth more than 10",
    source=f"{CARLINI}; {OURS}",
    remedy="Use `--effort thorough`.",
)
def convergence(trial: Trial) -> Finding | None:
    """Judge what more steps and starts do to a sample of the images that PGD left."""
    fact = trial.convergence
    if fact is None or not fact["n_survivors"]:
        return None
    examined = fact.get("n_examined", fact["n_survivors"])
    more = max(fact["n_doubled"], fact["n_restarts"])
    worth = more / examined * fact["n_survivors"] / fact["n"]
    return Finding(
        worse(unreliable=more > 1 and worth > UNCONVERGED, caution=more > 1 and worth > POINTS),
        f"At epsilon {fact['epsilon']:.3g} {fact['n_survivors']} of {fact['n']} images are left; of {examined} of "
        f"these twice the steps break {fact['n_doubled']}, more starts {fact['n_restarts']}: {100 * worth:.1f} points.",
    )


@check(
    "One attack is as strong as all together",
    rule="CAUTION if all attacks together, each image by the one that breaks it first, leave fewer than the strongest "
    "one, by more than 5 points and 1 image",
    source=f"{CARLINI}, section 5 (the worst case over attacks, never their average); {OURS}",
    remedy="Quote the worst case. Where attacks differ, each misses something: try further ones.",
)
def worst_case(trial: Trial) -> Finding | None:
    """Judge how far the worst case is below the strongest single attack."""
    if len(trial.attacks) < 2:
        return None
    beyond = [(each, curve) for curve in trial.attacks if (each := excess(trial.attacks, [curve])) is not None]
    if not beyond:
        return None
    least, curve = min(beyond, key=lambda pair: pair[0].gap)
    return Finding(
        worse(unreliable=False, caution=least.gap > max(FEW_POINTS * least.n, 1)),
        _compared(least, f"the worst case over {len(trial.attacks)} attacks", f"the strongest one ({curve.attack})"),
    )


@check(
    "No other attack shows that this one is blind",
    rule="UNRELIABLE if FGSM on another loss leaves fewer images, by more than 5 points and 1 image at some epsilon, "
    "or any other attack by more than 25",
    source=f"{CARLINI}; {OBFUSCATED}; {OURS}",
    remedy="Do not quote this curve as robustness: its loss hides the gradient, or its single step misses most of "
    "what there is. Quote the other attack's.",
    alone=True,
)
def other_attacks(trial: Trial) -> Finding | None:
    """Judge the published setting by what other attacks do to the same classifier."""
    one_step = [curve for curve in trial.others if curve.attack == "fgsm"]
    rest = [curve for curve in (*trial.others, *trial.controls, *trial.transfers) if curve.attack != "fgsm"]
    tried = [(excess([curve], trial.attacks), curve) for curve in (*one_step, *rest)]
    found = [(each, curve) for each, curve in tried if each is not None]
    if not found:
        return None
    most, curve = max(found, key=lambda pair: pair[0].gap / pair[0].n)
    by_one = [each for each, other in found if other.attack == "fgsm" and other in one_step]
    unreliable = any(each.gap > max(FEW_POINTS * each.n, 1) for each in by_one) or most.gap > FAR_STRONGER * most.n
    return Finding(worse(unreliable=unreliable, caution=False), _compared(most, curve.preset, "this one"))


# --- arithmetic and words -----------------------------------------------------------------------------------


def _white(trial: Trial) -> list[Curve]:
    return [*trial.one_step, *trial.many_steps]


def _right(curve: Curve) -> np.ndarray:
    return ~curve.wrong[:, 0]


def _stronger(beyond: Excess, points: float) -> bool:
    """Whether the first leaves fewer images than the second, by more than this share of all and more than one."""
    return beyond.gap > max(points * beyond.n, 1)


def _outside(trial: Trial, attacks: Sequence[Curve], name: str) -> Finding | None:
    """Return the finding of attacks that do not use this classifier's gradient, against those that do."""
    beyond = excess(attacks, _white(trial))
    if beyond is None:
        return None
    only = beyond.only > max(MANY * beyond.n_right, 1)
    return Finding(
        worse(
            unreliable=_stronger(beyond, FEW_POINTS if trial.many_steps else FAR_STRONGER),
            caution=_stronger(beyond, BLACK_BOX) or only,
        ),
        f"{_compared(beyond, name, 'the gradient attacks')} {_only(beyond, name)}",
    )


def _rise(curve: Curve) -> tuple[int, float, float]:
    """Return the largest rise of accuracy with epsilon, in images, and from where to where."""
    right = (~curve.wrong).sum(axis=0)
    rises = right - np.minimum.accumulate(right)
    end = int(rises.argmax())
    start = int(right[: end + 1].argmin())
    return int(rises[end]), float(curve.epsilons[start]), float(curve.epsilons[end])


def _claims(curve: Curve) -> tuple[int, int, int]:
    """Return, of the images right without attack: falsely claimed, broken but not claimed, and how many there are."""
    right = _right(curve)
    found, wrong = curve.found[right, 1:], curve.wrong[right, 1:]
    empty, silent = (found == 1) & ~wrong, (found == 0) & wrong
    return int(empty.any(axis=1).sum()), int(silent.any(axis=1).sum()), int(right.sum())


def _compared(beyond: Excess, first: str, second: str) -> str:
    if beyond.gap <= 0:
        return f"At no epsilon does {first} leave fewer of {beyond.n} images than {second}."
    return (
        f"At epsilon {beyond.gap_at:g} {first} leaves {percent(beyond.left / beyond.n)} of {beyond.n} images, {second} "
        f"{percent(beyond.left_by_other / beyond.n)}."
    )


def _only(beyond: Excess, name: str) -> str:
    if not beyond.n_right:
        return "No image is classified correctly without attack, so none can be broken."
    where = f" at epsilon {beyond.only_at:g}" if beyond.only else ""
    return f"{of(beyond.only, beyond.n_right, 'correctly classified images')} are broken by {name} alone{where}."
