"""What a run tells of its attacks, storages and models to those who read its table, where neither is installed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Kind(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: str
    title: str = ""


class AttackKind(_Kind):
    """An attack, as `attacks.registry.Entry` describes it; of an object of the user's its name alone is known.

    Attributes:
        name: in the table's column `attack`.
        title: its name as people write it.
        family: how it looks for its image.
        access: what it must have of the classifier; "" if that is not known.
        rank: its place among those of its family.
        aware: it looks for images that survive being stored.
        exhaustive: with the effort "thorough" it searches every ball, and follows a gradient in each.
        learns: it learns on training images, whose labels it uses instead of an image's own.
    """

    family: str = "other"
    access: Literal["gradients", "scores", "decisions", "nothing", ""] = ""
    rank: int = 100
    aware: bool = False
    exhaustive: bool = False
    learns: bool = False


class StorageKind(_Kind):
    """A way to store images.

    Attributes:
        name: in the table's column `storage`.
        title: what people call it.
        what: what becomes of an image.
        one_plane: its files always hold one plane; those of others three where the planes differ.
        bits: of attacks on so many bits its files hold exactly what these look for; 0: of none.
    """

    what: str = ""
    one_plane: bool = False
    bits: int = 0


class ModelKind(_Kind):
    """A network: its name in the column `model`, and as people write it."""


class ChangeKind(_Kind):
    """A physical change, as `physical.base.Entry` describes it and as it was asked.

    Attributes:
        name: in the table's columns `attack` and `preset`.
        unit: of its severities.
        severities: that were asked, the first one changes nothing.
        bounds: the least and the largest that are allowed.
        reason: why no other, in words that go on from "because".
        source: the paper.
        note: what it does.
        rank: its place.
        ordered: whether a farther severity is a stronger change; if not the worst of all counts.
        constants: of the apparatus, that it used.
        assumed: which of them were not declared.
    """

    unit: str = ""
    severities: list[float] = []
    bounds: list[float] = []
    reason: str = ""
    source: str = ""
    note: str = ""
    rank: int = 100
    ordered: bool = True
    constants: dict[str, float | None] = {}
    assumed: list[str] = []


class Kinds(BaseModel):
    """All of a run's, each in the run's order."""

    model_config = ConfigDict(extra="ignore", strict=True)

    attacks: list[AttackKind] = []
    changes: list[ChangeKind] = []
    storages: list[StorageKind] = []
    models: list[ModelKind] = []
