"""Defence: several heads on one base, each trained from a start of its own, whose answers are averaged."""

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Annotated

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dosimeter.defences.base import Defence, Entry
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.training import Training, nothing
from dosimeter.defences.votes import log_mean
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.parting import parted
from dosimeter.models.training import FitOptions, loss_of

MAPS_BATCH = 8
Maps = npt.NDArray[np.float32]


class Committee(nn.Module):
    """Heads that answer together: the logits of their mean probabilities.

    Args:
        n_outputs: of each.
        findings: whether these are findings.
    """

    def __init__(self, heads: list[nn.Module], *, n_outputs: int, findings: bool) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.n_outputs, self.findings = n_outputs, findings

    def forward(self, maps: Tensor) -> Tensor:
        """Return logits (batch, n_outputs) for feature maps."""
        each = torch.stack([head(maps).float() for head in self.heads], dim=1)  # (batch, heads, n_outputs)
        return torch.stack([log_mean(outputs, self.n_outputs, findings=self.findings) for outputs in each])


@dataclass(frozen=True)
class Ensemble(Defence):
    """Averages the classifier's own head with others like it.

    Args:
        members: heads in all.
        epochs: of each that is trained.
    """

    members: Annotated[int, Within(2, 50)] = 3
    epochs: Annotated[int, Within(1, 10_000)] = 25

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Return the tensors of the other heads, "1.NAME" those of the first of them.

        Raises:
            DosimeterError: the classifier has no head that could be trained from another start.
        """
        classifier = parted(classifier, why="defence ensemble")
        learned: dict[str, Tensor] = {}
        with tempfile.TemporaryFile() as file:
            maps = _maps(classifier, training, file, advance)
            for member in range(1, self.members):
                head = self._trained(classifier.head, maps, training.labels, classifier.device, seed + member)
                learned |= {f"{member}.{name}": tensor for name, tensor in head.state_dict().items()}
        return learned

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier with all heads."""
        del seed
        classifier = parted(classifier, why="defence ensemble")
        heads = [classifier.head]
        for member in range(1, self.members):
            head = copy.deepcopy(classifier.head)
            prefix = f"{member}."
            own = {name.removeprefix(prefix): each for name, each in learned.items() if name.startswith(prefix)}
            head.load_state_dict(own)
            heads.append(head)
        findings = classifier.findings is not None
        return classifier.with_head(Committee(heads, n_outputs=len(classifier.classes), findings=findings))

    def passes(self, n_images: int) -> float:
        """Return a pass for each image: heads cost next to nothing."""
        return float(n_images)

    def _trained(self, head: nn.Module, maps: Maps, labels: Tensor, device: torch.device, seed: int) -> nn.Module:
        """Return a copy of a head, trained from a start by `seed` as `models.fit` trains one."""
        options = FitOptions(epochs=self.epochs)
        head = copy.deepcopy(head).requires_grad_(True)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(), torch.enable_grad():  # starts and dropout know only the global generator
            torch.manual_seed(seed)
            _restart(head)
            optimizer = torch.optim.Adam(head.parameters(), lr=options.learning_rate)
            head.train()
            for epoch in range(options.epochs):
                for group in optimizer.param_groups:
                    group["lr"] = options.rate(epoch)
                for rows in torch.randperm(len(labels), generator=generator).split(options.batch_size):
                    given = torch.from_numpy(maps[rows.numpy()]).to(device)
                    loss = loss_of(head(given), labels[rows].to(device), "mean")
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        return head.requires_grad_(False).eval()


def _maps(classifier: Classifier, training: Training, file: IO[bytes], advance: Callable[[int], None]) -> Maps:
    """Return the feature maps (n, ...) of the training images, in a file rather than in memory."""
    shape: tuple[int, ...] = ()
    for _, images, _ in training.batches(MAPS_BATCH):
        with torch.no_grad():
            maps = classifier.features(images).float().cpu().contiguous().numpy()
        shape = maps.shape[1:]
        file.write(maps.tobytes())
        advance(len(images))
    file.flush()
    return np.memmap(file, dtype=np.float32, mode="r", shape=(len(training), *shape))


def _restart(head: nn.Module) -> None:
    """Give every layer new initial values, from the global generator.

    Raises:
        DosimeterError: a layer has weights and does not say how it begins.
    """
    for name, part in head.named_modules():
        restart = getattr(part, "reset_parameters", None)
        if restart is not None:
            restart()
        elif any(True for _ in part.parameters(recurse=False)):
            raise DosimeterError(
                f"defence ensemble must have a head of layers with `reset_parameters`, got {type(part).__name__}"
                f"{f' ({name})' if name else ''}, which is trained from one start only. Give it that method."
            )


ENTRY = Entry(
    build=lambda setting: parse(Ensemble, setting, name="ensemble"),
    note=f"answers averaged over heads trained from several starts; {described(Ensemble)}",
    title="ensemble",
    kind="vote",
    source="Strauss et al. 2017 (arXiv 1709.03423)",
    broken_by="He et al. 2017 (arXiv 1706.04701)",
)
