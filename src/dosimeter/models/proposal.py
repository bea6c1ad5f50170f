"""A model card for a model of which little is known: what its file says, and questions with the evidence beside them.

What the file says stands in the card. What only images speak for stands above an open question. Nothing is guessed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dosimeter.cohorts.base import Cohort
from dosimeter.files import digest_of
from dosimeter.models.evidence import RANGES, RESIZES, Count, Evidence, Outputs
from dosimeter.models.opening import Opened
from dosimeter.models.source import Brought
from dosimeter.plain import one_line
from dosimeter.record.model_card import ModelCard

ASK = "# ? "
HEAD = (
    "A model card for dosimeter audit. A line that begins with '# ?' asks what no file says: answer it, and take the",
    "'# ?' away. Counts are evidence, no proof: on a real model a wrong range and crop were right 16 times of 16,",
    "those that it was trained with 13 times.",
)
RESIZE_KEYS = ("resize", "interpolation", "antialias", "crop_pct")
N_SHOWN = 2
"""Orders of the classes that a row of counts shows."""


class Proposal(NamedTuple):
    """A card as text, and the keys that are left as questions."""

    text: str
    questions: tuple[str, ...]


class Sheet:
    """The lines of a card."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.asked: list[str] = []

    def part(self, *remarks: str) -> None:
        """Begin a part."""
        self.lines.append("")
        self.remark(*remarks)

    def remark(self, *remarks: str) -> None:
        """Write comments."""
        self.lines += [f"# {one_line(each)}" for each in remarks]

    def known(self, key: str, value: Any) -> None:
        """Write a key and its value."""
        self.lines.append(f"{key} = {_toml(value)}")

    def ask(self, key: str, value: Any = None) -> None:
        """Write a key as a question, with what stands there until it is answered, or an example of its form."""
        self.asked.append(key)
        self.lines.append(f"{ASK}{key} = {'' if value is None else _toml(value)}".rstrip())

    def table(self, rows: Sequence[tuple[str, Sequence[Count]]], n_images: int) -> None:
        """Write how much is right in each row."""
        if not rows:
            return
        of_classes = bool(rows[0][1][0].order)
        self.remark(
            f"Right of {n_images} images, by order of the classes:" if of_classes else "Share of known findings:"
        )
        width = max(len(words) for words, _ in rows)
        self.remark(*(f"  {words:<{width}}  {'; '.join(map(str, counts[:N_SHOWN]))}" for words, counts in rows))


def propose(opened: Opened, cohort: Cohort, *, name: str, n_images: int, beside: Path) -> Proposal:
    """Return the card of a model, with the evidence for what its file does not say.

    Args:
        opened: the model.
        cohort: images that it is made for, labelled.
        name: of the model.
        n_images: how many images are asked, of each class as many.
        beside: the folder of the card; files are named from there.

    Raises:
        DosimeterError: the network fails, or none of the images can be read.
    """
    sheet = Sheet()
    sheet.remark(*HEAD)
    sheet.known("name", name)
    for key, value in opened.facts.items():
        sheet.known(key, _from(Path(value), beside) if key == "weights" else value)
    if opened.card.weights is not None:
        sheet.remark(f"SHA-256 {opened.brought.sha256 or digest_of(opened.card.weights)}")
    for hint in opened.brought.hints:
        sheet.remark(hint)
    card, brought = opened.card, opened.brought
    asked = opened.outputs
    card = (
        _unasked(sheet, card) if asked is None else _outputs(sheet, card, brought, asked, several=bool(cohort.findings))
    )
    card = _classes(sheet, card, brought, cohort)
    _size(sheet, card, brought)
    evidence = None if asked is None else Evidence(card, brought, cohort, n_images=n_images)
    best = _range(sheet, brought, evidence)
    _resize(sheet, brought, evidence, best)
    sheet.part("Who may use the weights.")
    sheet.known("licence", "not stated")
    sheet.part("Predictions that are known, as from where it was trained, are checked before all else:")
    sheet.remark("[[reference]]", 'image = "a.png"', "probabilities = [0.02, 0.98]")
    return Proposal("\n".join(sheet.lines) + "\n", tuple(sheet.asked))


def _unasked(sheet: Sheet, card: ModelCard) -> ModelCard:
    sheet.part("Neither its file nor you say the size of its images (--size-px), so that it could not be asked.")
    sheet.ask("outputs", "logits")
    return card


def _outputs(sheet: Sheet, card: ModelCard, brought: Brought, found: Outputs, *, several: bool) -> ModelCard:
    """Write what the network's outputs are; return a card of that kind and so many classes."""
    n = found.within.shape[1]
    if brought.outputs is not None:
        sheet.part(f"The file ends in an activation that makes {card.outputs} of logits.")
        sheet.known("outputs", card.outputs)
        return _with_classes(card, n)
    low, high = float(found.within.min()), float(found.within.max())
    whose = "its file" if card.outputs == "findings" else "the data" if several else ""
    kind, why = _kind(found, n, whose)
    sheet.part(f"{n} output{'s' if n > 1 else ''}, from {low:.3g} to {high:.3g} for noise: {why}.")
    if kind:
        sheet.known("outputs", kind)
    else:
        sheet.ask("outputs")
    return _with_classes(card.model_copy(update={"outputs": kind or ("one logit" if n == 1 else "logits")}), n)


def _kind(found: Outputs, n: int, whose: str) -> tuple[str, str]:
    """Return what outputs are, "" if that cannot be known, and why; `whose` findings they are, "" if nobody's."""
    if found.activation == "softmax":
        return "probabilities", "they sum to 1, also far outside the range of images"
    if found.activation == "sigmoid" and n > 1:
        return "", "they stay in [0, 1], so that a sigmoid stands before them; findings are the logits before it"
    if found.activation == "sigmoid":
        return "one probability", "it stays in [0, 1], also far outside the range of images"
    if n == 1 and found.are_whole:
        return "", 'whole numbers, which may be places of classes: outputs = "labels" of an ONNX file or an endpoint'
    if n == 1:
        return "one logit", "a logit"
    if whose:
        return "findings", f"logits, of findings that an image may have or not, as {whose} has them"
    return "logits", "logits, of classes that exclude each other, as the data has them"


def _with_classes(card: ModelCard, n: int) -> ModelCard:
    names = tuple(f"output {place}" for place in range(max(n, 2)))
    return card if len(card.classes) == len(names) else card.model_copy(update={"classes": names})


def _classes(sheet: Sheet, card: ModelCard, brought: Brought, cohort: Cohort) -> ModelCard:
    """Write what the outputs stand for; return a card with the names that are known, or the data's."""
    names = cohort.findings or cohort.classes
    if brought.classes is not None:
        sheet.part("The file names its outputs.")
        sheet.known("classes", brought.classes)
        card = card.model_copy(update={"classes": brought.classes})
    elif len(card.classes) == len(names):
        sheet.part("The data has these. Which output is which? Their order is that of the outputs.")
        sheet.ask("classes", names)
        card = card.model_copy(update={"classes": tuple(names)})
    else:
        sheet.part(f"The network has {len(card.classes)}, the data {len(names)}: {', '.join(names)}.")
        sheet.ask("classes")
    if brought.thresholds:
        sheet.remark("The probability from which each counts, as its source publishes it.")
        sheet.known("thresholds", brought.thresholds)
    elif card.outputs == "findings":
        sheet.ask("thresholds", [0.5] * len(card.classes))
    if not cohort.findings and cohort.positive is not None:
        sheet.known("positive", cohort.positive)
    return card


def _size(sheet: Sheet, card: ModelCard, brought: Brought) -> None:
    size = brought.size_px or card.size_px
    sheet.part("Its source says so." if brought.size_px else "You say so." if size else "How large are its images?")
    if size is None:
        sheet.ask("size_px", 224)
    else:
        sheet.known("size_px", size)
    sheet.known("channels", card.channels)


def _range(sheet: Sheet, brought: Brought, evidence: Evidence | None) -> str:
    """Write the range of pixels; return that of `RANGES` with the most that is right, "" where nothing was counted."""
    if brought.mean is not None and brought.std is not None:
        sheet.part("Its source says so.")
        sheet.known("scale", brought.scale or 1.0)
        sheet.known("mean", _three(brought.mean))
        sheet.known("std", _three(brought.std))
        return ""
    sheet.part("How were pixels given to it when it was trained?")
    best = ""
    if evidence and evidence.cases:
        counted = [(words, evidence.counts(facts)) for words, facts in RANGES.items()]
        sheet.table(counted, len(evidence.cases))
        best = max(counted, key=lambda each: each[1][0].right)[0]
    for key in ("scale", "mean", "std"):
        sheet.ask(key)
    if evidence and evidence.in_colour:
        turned = {words: facts for words, facts in RANGES.items() if "channel_order" not in facts}
        rows = [(words, evidence.counts(facts | {"channel_order": "bgr"})) for words, facts in turned.items()]
        sheet.remark("The same with blue first:")
        sheet.table(rows, len(evidence.cases))
        sheet.ask("channel_order", "rgb")
    return best


def _resize(sheet: Sheet, brought: Brought, evidence: Evidence | None, best: str) -> None:
    said = {key: value for key in RESIZE_KEYS if (value := getattr(brought, key)) is not None}
    if said:
        sheet.part("Its source says so.")
        for key, value in said.items():
            sheet.known(key, value)
        if evidence and evidence.cases and brought.mean is not None:
            sheet.part("How much is right with all this:")
            sheet.table([("as above", evidence.counts({}))], len(evidence.cases))
        return
    sheet.part("How did its images get that size? Until this is answered: squashed, by the bilinear filter.")
    if evidence and evidence.cases:
        if best:
            sheet.remark(f"Counted with the range with the most that are right ({best.partition(':')[0]}).")
        rows = [(words, evidence.counts(RANGES.get(best, {}) | how)) for words, how in RESIZES.items()]
        sheet.table(rows, len(evidence.cases))
    for key, value in zip(RESIZE_KEYS, ("squash", "bilinear", True, 1.0), strict=True):
        sheet.ask(key, value)


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values if len(values) == 3 else values * 3


def _from(path: Path, folder: Path) -> str:
    """Return a path as the card names it: from the card's folder where it lies there, else absolute."""
    try:
        return path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())


def _toml(value: Any) -> str:
    """Return a value as TOML, whose text, numbers, lists and truth are JSON's."""
    return json.dumps(value, ensure_ascii=False)
