"""What `dosimeter fit` leaves: tensors, a model card, and the digests of the images that it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w
import torch
from safetensors.torch import save

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.split import Split
from dosimeter.errors import DosimeterError
from dosimeter.files import replacing, write_text
from dosimeter.models.base import Classifier
from dosimeter.models.rings import excess_of
from dosimeter.models.transfer import Transferred
from dosimeter.record.model_card import ModelCard, checked, read_model_card

BATCH = 8
NAMED = ("timm", "torchvision", "monai")
"""Sources whose networks have names, and can be made without a file."""


def card_for(
    model: str,
    cohort: Cohort,
    *,
    name: str,
    weights: Path | None,
    random_weights: bool,
    seen: Mapping[str, Any] = MappingProxyType({}),
) -> ModelCard:
    """Return the card of a network for a cohort's classes.

    Args:
        model: a card's path, whose classes give way to the cohort's; or SOURCE:NAME.
        name: of the new classifier.
        weights: its tensors.
        random_weights: whether it has none.
        seen: how images are shown to it, as a card says that (size_px, channels, mean, std); None: as the card or the
            source says.

    Raises:
        DosimeterError: it is neither, or says no weights.
    """
    decided: dict[str, Any] = {"classes": cohort.findings or cohort.classes, "name": name, "thresholds": ()}
    decided["outputs"] = "findings" if cohort.findings else "logits"
    decided |= {} if cohort.findings or cohort.positive is None else {"positive": cohort.positive}
    told = {key: value for key, value in seen.items() if value is not None}
    if model.endswith(".toml"):
        known = read_model_card(Path(model)).model_dump(exclude_unset=True)
        known |= decided | ({"weights": weights} if weights else {})
        known.pop("reference", None)
        return checked(known | told, f"the model card {Path(model).name}")
    source, colon, architecture = model.partition(":")
    if source not in NAMED or not colon or not architecture:
        raise DosimeterError(f"model must be a model card or one of {':NAME, '.join(NAMED)}:NAME, got '{model}'.")
    if weights is None and not random_weights:
        raise DosimeterError(f"weights of {architecture} must be given: --weights FILE, or --random-weights to try it.")
    facts = {"source": source, "architecture": architecture, **decided, "random_weights": random_weights}
    facts |= ({"weights": weights} if weights else {}) | told
    return checked(facts, "fit")


def held_out(test: Cohort, before: frozenset[str]) -> Cohort:
    """Return the test images that the network was not trained on before, by their digests.

    Raises:
        DosimeterError: none is left.
    """
    kept = [place for place, record in enumerate(test.records) if record.sha256 not in before]
    if not kept:
        raise DosimeterError(f"{test.name}: the model was trained on every test image before. Choose another --seed.")
    return test.subset(kept)


def write_trained(
    out: Path, card: ModelCard, made: Transferred, halves: Split, before: frozenset[str] = frozenset()
) -> None:
    """Write NAME.safetensors, NAME.trained (digests of the training images) and the card, which comes last.

    Args:
        before: digests of what the network was trained on before.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    tensors, trained_on = out.with_suffix(".safetensors"), out.with_suffix(".trained")
    with replacing(tensors) as temporary:
        temporary.write_bytes(save({key: value.contiguous() for key, value in made.network.state_dict().items()}))
    digests = dict.fromkeys([*sorted(before), *(record.sha256 for record in halves.train.records)])
    write_text(trained_on, "".join(f"{digest}\n" for digest in digests))
    facts = card.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude={"weights", "random_weights"})
    facts |= {"weights": tensors.name, "trained_on": trained_on.name}
    what = f"{', '.join(made.trained)} trained by dosimeter on {len(halves.train)} images of {halves.train.name}"
    facts["note"] = f"{card.note} {what} ({halves.protocol}, seed {halves.seed}).".strip()
    write_text(out, tomli_w.dumps({key: value for key, value in facts.items() if value not in ((), [], {})}))


def accuracy_of(classifier: Classifier, cohort: Cohort) -> tuple[int, int]:
    """Return how many images, or known findings of images, a classifier has right, and of how many."""
    right = n = 0
    for start in range(0, len(cohort), BATCH):
        places = range(start, min(start + BATCH, len(cohort)))
        with torch.inference_mode():
            images = torch.stack([classifier.prepare(cohort[place]) for place in places])
            logits = classifier(images.to(classifier.device)).cpu()
        if classifier.findings is not None:
            known = torch.from_numpy(cohort.known_findings[list(places)])
            right += int(classifier.findings.right(logits, known)[~known.isnan()].sum())
            n += int((~known.isnan()).sum())
        else:
            accepted = excess_of(logits) <= 0 if classifier.rejects else torch.ones(len(places), dtype=torch.bool)
            predicted = logits[:, : len(classifier.classes)].argmax(dim=1)
            right += int((accepted & (predicted == torch.from_numpy(cohort.labels[list(places)]))).sum())
            n += len(places)
    return right, n
