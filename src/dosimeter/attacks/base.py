"""What every attack shares: it proposes, the framework clips, checks and measures.

There are two kinds. A `DirectionAttack` gives one direction for all epsilons (FGSM, noise, a minimum-norm attack: its
adversarial image is a direction and how far to go). A `BudgetAttack` searches the ball of one epsilon (PGD, Square);
the framework looks for the smallest epsilon of the grid at which it succeeds (see `sweeps.search`). Nothing an attack
returns is trusted to stay in its ball, its mask or the image's range.
"""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.attacks.alarms import BLEND, blended, folded
from dosimeter.attacks.lattice import on_lattice
from dosimeter.attacks.losses import LOSSES
from dosimeter.errors import DosimeterError, in_a_line

SUCCESS_MARGIN = 5e-5
"""An attack stops at a misclassification whose margin is this share of the image's largest spread of logits so far: a
smaller one may be undone by the rounding of another batch. It follows the logits' scale and no offset of theirs."""

ROUNDING = 4 * torch.finfo(torch.float32).eps  # of the largest logit: margins below it are the rounding's own


class AttackError(DosimeterError):
    """An attack broke its contract; its numbers cannot be used."""


# --- what an attack is given --------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What an attack spent, images counted one by one: (batch,) int64 each."""

    gradients: Tensor
    queries: Tensor


@dataclass(frozen=True)
class Problem:
    """Images to attack and what an attack may do to them.

    Attributes:
        network: images (batch, 3, H, W) in [0, 1] to logits (batch, n_classes); differentiable, or `gradient` fails.
            If it `rejects`, with an alarm behind them (see `folded`). Where it is `random` an attack always fills its
            ball: its gradients are of other draws than the answers, and what barely succeeds with those may fail.
        images: (batch, 3, H, W) in [0, 1].
        labels: (batch,) true classes.
        targets: (batch,) the class that each image should be given; None: any but the true one.
        mask: (batch, 1, H, W), True where a pixel may move; None: everywhere.
        levels: steps between black and white of the file to be written (255 for 8 bit); None: floats. What
            `project` returns lies on that lattice.
        answers: images to logits without a gradient, as fast as they can be had; by default the network's.
        fill: an attack that searches a ball goes on after its first success, for the largest loss of the ball: what is
            stored, or looked at, is then what so much epsilon can do.
        tick: called before each pass; it may raise, to end the attack.
        blend: of an image's largest spread of logits, the share over which the gradient goes from the true class's to
            an alarm's where the network rejects (see `gradient`); 0 for the derivative of `folded` itself.
        seed: of every random choice. Each image has a generator of its own, seeded by this and its pixels, so that a
            batch equals its singles.
        account, entries: see `cost` and `places`; a part of a problem shares its account.
        spreads: of all images of the account, the largest spread of their logits in any answer so far.
        generators: one an image.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    targets: Tensor | None = None
    mask: Tensor | None = None
    levels: int | None = None
    fill: bool = False
    answers: Callable[[Tensor], Tensor] | None = None
    tick: Callable[[], None] = lambda: None
    seed: int = 0
    blend: float = BLEND
    account: Cost | None = None
    entries: Tensor | None = None
    spreads: Tensor | None = None
    generators: Sequence[torch.Generator] = ()

    def __post_init__(self) -> None:
        n = len(self.images)
        if getattr(self.network, "random", False):
            object.__setattr__(self, "fill", True)
        if self.account is None:
            nothing = torch.zeros(2, n, dtype=torch.long)
            object.__setattr__(self, "account", Cost(*nothing))
            object.__setattr__(self, "entries", torch.arange(n))
            object.__setattr__(self, "spreads", torch.zeros(n))
        if not self.generators:
            generators = [torch.Generator().manual_seed(_seed(image, self.seed)) for image in self.images]
            object.__setattr__(self, "generators", generators)
        assert len(self.labels) == len(self.generators) == len(self.places) == n

    @property
    def cost(self) -> Cost:
        """What has been spent on all images that the account is for, counted by `gradient` and `ask`."""
        assert self.account is not None
        return self.account

    @property
    def places(self) -> Tensor:
        """Where in `cost` this problem's images stand, (batch,)."""
        assert self.entries is not None
        return self.entries

    def __len__(self) -> int:
        return len(self.images)

    def take(self, which: Tensor) -> "Problem":
        """Return the problem of its images at the places `which` (m,); costs go to the same account."""
        places = which.tolist()
        here = which.to(self.images.device)
        return replace(
            self,
            images=self.images[here],
            labels=self.labels[here],
            targets=None if self.targets is None else self.targets[here],
            mask=None if self.mask is None else self.mask[here],
            generators=[self.generators[place] for place in places],
            entries=self.places[which.cpu()],
        )

    def ask(self, images: Tensor) -> Tensor:
        """Return the logits (n, n_classes) of perturbed `images` (n, 3, H, W): one query each, no gradient.

        There are as many as the problem has, or, of a problem of one image, any number of its variants.
        """
        self.tick()
        places = self.places.expand(len(images))
        self.cost.queries.index_add_(0, places, torch.ones_like(places))
        if self.answers is not None:
            logits = self.answers(images.cpu()).to(images.device)
        else:
            with torch.no_grad():
                logits = self.network(images).float()
        logits = self.folded(logits)
        self._see(places, logits)
        return logits

    def _see(self, places: Tensor, logits: Tensor) -> None:
        """Remember how far the logits (n, n_classes) of the images at `places` (n,) are apart."""
        spread = (logits.amax(dim=1) - logits.amin(dim=1)).detach().cpu()
        assert self.spreads is not None
        self.spreads.scatter_reduce_(0, places, spread.nan_to_num(posinf=0), "amax")

    def gradient(self, images: Tensor, loss: str, channels: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return what climbs `loss` at perturbed `images`: one gradient an image.

        Returns:
            logits (batch, n_classes), `folded`; losses (batch,), which the attack wants large; their gradient
            (batch, 3, H, W), the same in all planes if `channels` is "tied", 0 where the mask is. Of a network that
            rejects it goes smoothly over from the true class's gradient to the alarm's.

        Raises:
            FloatingPointError: a gradient is not finite.
            AttackError: the network has no gradient.
        """
        self.tick()
        images = images.detach().requires_grad_(True)
        try:
            with torch.enable_grad():
                outputs = self.network(images).float()
                climbed = self.losses(self._climbed(outputs), loss)
            if not climbed.requires_grad:
                raise no_gradient()
            (gradient,) = torch.autograd.grad(climbed.sum(), images, allow_unused=True)  # a sum: batching changes none
            logits = self.folded(outputs.detach())
            losses = self.losses(logits, loss)
        except (torch.OutOfMemoryError, AttackError):
            raise
        except RuntimeError as error:  # of the network, or of its backward pass
            if lacks_gradient(error):  # a layer leaves it for numpy
                raise no_gradient() from error
            if isinstance(error, DosimeterError):
                raise
            raise AttackError(
                f"the gradient of the classifier cannot be computed: {in_a_line(error)}. Use an attack that needs "
                "answers only: square, hopskipjump, random_sign or uniform_noise."
            ) from error
        if gradient is None:
            raise no_gradient()
        self.cost.gradients.index_add_(0, self.places, torch.ones_like(self.places))
        self._see(self.places, logits)
        if not torch.isfinite(gradient).all():
            raise FloatingPointError(f"the gradient of {loss} is not finite")
        return logits, losses, self.allowed(gradient, channels)

    def folded(self, outputs: Tensor) -> Tensor:
        """Return logits (n, n_classes) of outputs, the alarm of a network that rejects folded into the true class.

        What an attack is after, another class with the largest logit, is then an image that is answered wrongly and not
        rejected: every attack knows the detector (see `attacks.alarms`).
        """
        if not getattr(self.network, "rejects", False):
            return outputs
        return folded(outputs, self.labels.expand(len(outputs)))

    def _climbed(self, outputs: Tensor) -> Tensor:
        """Return what the gradient is taken of: `folded`, smooth where true class and alarm are about as large."""
        if not (self.blend and getattr(self.network, "rejects", False)):
            return self.folded(outputs)
        assert self.spreads is not None
        return blended(outputs, self.labels, self.spreads[self.places].to(outputs), share=self.blend)

    def allowed(self, gradient: Tensor, channels: str) -> Tensor:
        """Return a direction (batch, 3, H, W) as far as it may be followed: planes tied, nothing outside the mask."""
        gradient = tied(gradient) if channels == "tied" else gradient
        return gradient if self.mask is None else gradient * self.mask

    def losses(self, logits: Tensor, loss: str) -> Tensor:
        """Return what the attack wants large (batch,): the loss of the true class, or less that of the target."""
        if self.targets is None:
            return LOSSES[loss](logits, self.labels)
        return -LOSSES[loss](logits, self.targets)

    def fooled(self, logits: Tensor) -> Tensor:
        """Return (batch,) True where `logits` are what the attack is after, by more than rounding."""
        return self.losses(logits, "margin") > self.room(logits)

    def room(self, logits: Tensor) -> Tensor:
        """Return the margin (batch,) that images of these `logits` need beyond 0 to be fooled for certain."""
        assert self.spreads is not None
        spread = self.spreads[self.places].to(logits)
        return SUCCESS_MARGIN * spread + ROUNDING * logits.abs().amax(dim=1)

    def project(self, images: Tensor, epsilon: Tensor) -> Tensor:
        """Return what is nearest to `images` (batch, 3, H, W) within `epsilon` (batch,), range, mask and lattice."""
        reach = epsilon.view(-1, 1, 1, 1)
        low, high = (self.images - reach).clamp(min=0), (self.images + reach).clamp(max=1)
        images = images.clamp(low, high)
        if self.levels is not None:
            images = on_lattice(images, self.images, low, high, self.levels)
        return images if self.mask is None else torch.where(self.mask, images, self.images)

    def stride(self, step: Tensor) -> Tensor:
        """Return `step` where images are floats, else no less than a grey level: rounding would undo a shorter one."""
        return step if self.levels is None else step.clamp(min=1 / self.levels)

    def random(self, draw: Callable[..., Tensor], *shape: int) -> Tensor:
        """Return random numbers (batch, *shape) by `draw`, `torch.rand` or `torch.randn`, each image's from its own."""
        rows = [draw(shape, generator=generator) for generator in self.generators]
        return torch.stack(rows).to(self.images)

    def noise(self, channels: str) -> Tensor:
        """Return uniform noise in [-1, 1), (batch, 1, H, W) if `channels` is "tied", else one plane for each."""
        planes = 1 if channels == "tied" else self.images.shape[1]
        return 2 * self.random(torch.rand, planes, *self.images.shape[2:]) - 1


def _seed(image: Tensor, seed: int) -> int:
    digest = hashlib.blake2b(
        image.detach().cpu().contiguous().numpy().tobytes(), digest_size=7, salt=seed.to_bytes(8, "big")
    )
    return int.from_bytes(digest.digest(), "big")


def lacks_gradient(error: RuntimeError) -> bool:
    """Whether torch raised `error` because there is no gradient where one is asked for."""
    return re.search("requires? grad", str(error)) is not None


def no_gradient() -> AttackError:
    """Return the error of an attack that needs a gradient where there is none."""
    return AttackError(
        "the attack needs a gradient, and the classifier has none from logits to image. Use one that needs answers "
        "only: square, hopskipjump, random_sign or uniform_noise."
    )


def tied(gradient: Tensor) -> Tensor:
    """Return gradients (n, 3, H, W) of images whose planes move together: each plane holds the sum of all."""
    return gradient.sum(dim=1, keepdim=True).expand_as(gradient)


# --- what an attack gives -----------------------------------------------------------------------------------


class Direction(NamedTuple):
    """One direction for all epsilons.

    Attributes:
        sign: (batch, 3, H, W), each value in [-1, 1]; of a sign attack -1, 0 or 1.
        grad_zero: (batch,), True where the whole gradient was exactly zero: that image cannot be perturbed.
        logits: (batch, n_classes) of the unperturbed images, where the attack computed them on its way: they are not
            computed again.
        reach: (batch,), how far to go along it at most; None: as far as epsilon. A minimum-norm attack goes as far as
            its adversarial image, and where it found none, 0.
        found: (batch,), True where the attack says that the image at `reach` is adversarial; None: it makes no claim.
    """

    sign: Tensor
    grad_zero: Tensor
    logits: Tensor | None = None
    reach: Tensor | None = None
    found: Tensor | None = None


class Candidate(NamedTuple):
    """The best image that a `BudgetAttack` found in its ball.

    Attributes:
        images: (batch, 3, H, W).
        found: (batch,), True where the attack says that it is adversarial.
    """

    images: Tensor
    found: Tensor


class Attack(Protocol):
    """An attack under the L-infinity norm: a frozen dataclass whose fields determine what it does."""

    @property
    def name(self) -> str:
        """Name in the table's `attack` column."""

    @property
    def loss(self) -> str:
        """Name of the loss it climbs, "none" if it climbs none."""

    @property
    def channels(self) -> str:
        """Whether the three planes of an image move together (`tied`) or apart (`free`)."""


@runtime_checkable
class DirectionAttack(Attack, Protocol):
    """One direction for all epsilons, from one run."""

    def direction(self, problem: Problem) -> Direction:
        """Return where to push the problem's images."""


@runtime_checkable
class BudgetAttack(Attack, Protocol):
    """A search of one ball."""

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        """Return the worst images within `epsilon` (batch,), by what the attack maximises."""


# --- what is refused ----------------------------------------------------------------------------------------


COUNTS = frozenset({"steps", "restarts", "queries", "searches", "repairs", "candidates", "batches", "batch_size"})
"""Settings of attacks that count something."""


def check_positive(**numbers: object) -> None:
    """Raise DosimeterError, naming it, if a number is not positive and finite, or is a count and not whole."""
    for name, value in numbers.items():
        if not (isinstance(value, int | float | np.number) and 0 < value < math.inf):
            raise DosimeterError(f"{name} must be positive, a finite number, got {value!r}.")
        if name in COUNTS and not isinstance(value, int | np.integer):
            raise DosimeterError(f"{name} must be a whole number, got {value!r}. Try {math.ceil(value)}.")


def check_attack(attack: object) -> None:
    """Raise DosimeterError unless `attack` is one."""
    if isinstance(attack, type):
        raise DosimeterError(f"attack must be an object, got the class {attack.__name__}. Try {attack.__name__}().")
    if not isinstance(attack, DirectionAttack | BudgetAttack):
        raise DosimeterError(
            f"attack must have a method `direction` or `perturb` and the names `name`, `loss` and `channels`, got "
            f"{type(attack).__name__}. Wrap an attack of Foolbox or ART in dosimeter.attacks.adapters."
        )
