"""Transfer learning of any network that a model card names: its last layer anew, and blocks before it if asked.

The last layer is multinomial (of findings, binary) logistic regression on what the network gives it, with an L2
penalty: it has one optimum, so no learning rate is to be chosen. Opened blocks are then trained on images, with frozen
statistics of batch normalisations.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dosimeter import registry
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.fit import labels_of
from dosimeter.models.source import Brought, Source, classifier_of
from dosimeter.models.tensors import read_tensors, unprefixed
from dosimeter.models.training import loss_of
from dosimeter.plain import named
from dosimeter.progress import Progress
from dosimeter.record.model_card import ModelCard

FEATURES_BATCH = 8


@dataclass(frozen=True)
class TransferOptions:
    """How a network is adapted.

    Attributes:
        penalty: of the squared weights of the last layer on standardised features, a share of an image's loss.
        open_blocks: blocks before the last layer that are trained too.
        epochs, learning_rate, batch_size: of opened blocks (Adam).
        seed: of the order of images.
    """

    penalty: float = 1e-2
    open_blocks: int = 0
    epochs: int = 5
    learning_rate: float = 5e-5
    batch_size: int = 8
    seed: int = 0


class Transferred(NamedTuple):
    """A classifier of the cohort's classes, its network, and what was trained of it."""

    classifier: Classifier
    network: nn.Module
    trained: tuple[str, ...]


def transfer(
    card: ModelCard, training: Cohort, options: TransferOptions, *, progress: Progress | None = None
) -> Transferred:
    """Train the last layer of the card's network, and as many blocks before it as `options` open, on a cohort.

    The card's tensors may have a last layer of other classes, which is left out.

    Args:
        card: its classes, or findings, are the cohort's.
        training: the images; nothing else is looked at.
        progress: told of both stages.

    Raises:
        DosimeterError: the network has no linear last layer, cannot be loaded, or has fewer blocks than are opened.
    """
    progress = progress or Progress()
    brought = _loaded(card)
    network = brought.network
    name, last = last_layer(network, card.n_outputs)
    classifier = classifier_of(card, brought)  # adopts the network: what is trained in it answers at once
    labels = labels_of(training)
    progress.begin(f"{card.name}: features of {len(training)} images", len(training))
    features = torch.cat(list(_features(classifier, last, training, progress.advance)))
    regress(last, features, labels, penalty=options.penalty)
    opened = _blocks(network, last)[: options.open_blocks]
    if len(opened) < options.open_blocks:
        raise DosimeterError(
            f"open must be at most {len(opened)} for {card.architecture or card.name}, got {options.open_blocks}."
        )
    if opened:
        steps = options.epochs * len(training)
        progress.begin(f"{card.name}: training {', '.join(block for block, _ in opened)}", steps)
        _train(classifier, [last, *(module for _, module in opened)], training, labels, options, progress.advance)
    return Transferred(classifier, network, (name, *(block for block, _ in opened)))


def last_layer(network: nn.Module, n_outputs: int) -> tuple[str, nn.Linear]:
    """Return the linear layer that gives the outputs, and its name.

    Raises:
        DosimeterError: the network's last linear layer gives another number.
    """
    found = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not found or found[-1][1].out_features != n_outputs:
        raise DosimeterError(
            f"the network must end in a linear layer of {n_outputs} outputs: only that can be trained."
        )
    return found[-1]


def regress(layer: nn.Linear, features: Tensor, labels: Tensor, *, penalty: float) -> None:
    """Make `layer` the logistic regression of `labels` on `features` (n, d), with an L2 penalty, by L-BFGS."""
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    ready = (features - mean) / spread
    weight = torch.zeros(layer.out_features, features.shape[1], requires_grad=True)
    bias = torch.zeros(layer.out_features, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-7)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(ready @ weight.T + bias, labels, "mean") + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        layer.weight.copy_(weight / spread)
        assert layer.bias is not None
        layer.bias.copy_(bias - (weight / spread) @ mean)


def _loaded(card: ModelCard) -> Brought:
    """Return the card's network with all its tensors but those of the last layer."""
    source: Source = registry.get("sources", card.source)
    if not source.needs_tensors:
        known = [name for name in registry.names("sources") if registry.get("sources", name).needs_tensors]
        raise DosimeterError(f"fit takes a network by its name, of {', '.join(known)}; got the source {card.source}.")
    if reason := source.why_trust(card):
        raise DosimeterError(f"fit runs no code that comes with a network: {reason}")
    if card.weights is not None and card.weights.is_dir():
        raise DosimeterError(
            f"weights must be a file of tensors for fit, got the folder {named(card.weights.name)}. Name the network "
            "as architecture, and the tensors in the folder as weights."
        )
    brought = source.load(card.model_copy(update={"weights": None, "random_weights": True}))
    if card.random_weights:
        return brought
    if card.weights is None:
        raise DosimeterError(f"the model card of {card.name} must name its weights, or say random_weights = true.")
    name, _ = last_layer(brought.network, card.n_outputs)
    own = brought.network.state_dict()
    found = {
        key: value for key, value in unprefixed(read_tensors(card.weights)).items() if not key.startswith(f"{name}.")
    }
    wanted = {key for key in own if not key.startswith(f"{name}.") and not key.endswith("num_batches_tracked")}
    off = sorted(wanted - found.keys()) + sorted(
        key for key in wanted & found.keys() if own[key].shape != found[key].shape
    )
    if off:
        raise DosimeterError(
            f"{card.weights.name} does not hold the tensors of {card.architecture}; missing or of other shapes: "
            f"{', '.join(off[:5])}{' ...' if len(off) > 5 else ''}."
        )
    brought.network.load_state_dict(found, strict=False)
    return brought


def _features(
    classifier: Classifier, last: nn.Linear, cohort: Cohort, advance: Callable[[int], None]
) -> Iterator[Tensor]:
    """Yield what the last layer is given of each image, (n, d) in batches."""
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().float()))
    try:
        for start in range(0, len(cohort), FEATURES_BATCH):
            places = range(start, min(start + FEATURES_BATCH, len(cohort)))
            with torch.inference_mode():
                classifier(torch.stack([classifier.prepare(cohort[place]) for place in places]))
            features = seen.pop()
            if features.ndim != 2 or len(features) != len(places):
                raise DosimeterError(f"the last layer must be given (n, d), got {tuple(features.shape)}.")
            advance(len(places))
            yield features.clone()
    finally:
        hook.remove()


def _blocks(network: nn.Module, last: nn.Linear) -> list[tuple[str, nn.Module]]:
    """Return the parts before the last layer that have parameters, the latest first; a sequence counts by its parts."""

    def parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            if any(part is last for part in child.modules()) or not any(True for _ in child.parameters()):
                continue
            if isinstance(child, nn.Sequential) and len(child) > 1 and not prefix:
                yield from parts(child, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", child

    return list(parts(network, ""))[::-1]


def _train(
    classifier: Classifier,
    parts: list[nn.Module],
    cohort: Cohort,
    labels: Tensor,
    options: TransferOptions,
    advance: Callable[[int], None],
) -> None:
    """Train parts of a classifier's network on images, with everything in evaluation mode."""
    parameters = [parameter.requires_grad_(True) for part in parts for parameter in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=options.learning_rate)
    order = torch.Generator().manual_seed(options.seed)
    for _ in range(options.epochs):
        for rows in torch.randperm(len(cohort), generator=order).split(options.batch_size):
            images = torch.stack([classifier.prepare(cohort[int(row)]) for row in rows])
            loss = loss_of(classifier(images), labels[rows], "mean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            advance(len(rows))
    for parameter in parameters:
        parameter.requires_grad_(False)
