"""Physical changes of a cell's images: every severity of a few images at once, on the network's device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dosimeter.physical.base import Change, changed
from dosimeter.sweeps.answers import Target
from dosimeter.sweeps.paths import Changed
from dosimeter.sweeps.plan import Setting


def with_changes(targets: Sequence[Target], setting: Setting, device: torch.device) -> list[Target]:
    """Return `targets`, whose images are of one size, with their images at every severity of the setting's change.

    Raises:
        DosimeterError: the change broke its contract.
    """
    change = setting.preset.attack
    assert isinstance(change, Change), change
    identity, *severities = setting.preset.severities
    images = torch.stack([target.image for target in targets]).to(device)
    found: list[dict[float, Tensor]] = [{identity: target.image} for target in targets]
    for severity in severities:
        made = changed(change, images, severity, identity=identity, seed=setting.seed).cpu()
        for mine, image in zip(found, made, strict=True):
            mine[severity] = image.contiguous()
    return [target._replace(path=Changed(mine)) for target, mine in zip(targets, found, strict=True)]
