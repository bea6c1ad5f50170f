"""How a sweep in memory is computed: by which engine, by how many workers, and who is told how far it is."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

from dosimeter.engines.choose import check_name
from dosimeter.errors import DosimeterError


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a sweep is computed. Engines agree with torch in every class, so no accuracy depends on it.

    Args:
        engine: what computes the answers (`dosimeter list engines`); "auto" is the fastest that agrees with torch.
        workers: cells computed at once, a thread each; by default one for each core.
        batch_size: images in a pass of the network; by default what fits.
        advance: called after each cell with how many cases it had.

    Raises:
        DosimeterError: there is no such engine, or a number is none.

    Example:
        >>> Compute(engine="torch", workers=2).workers
        2
    """

    engine: str = "auto"
    workers: int | None = None
    batch_size: int | None = None
    advance: Callable[[int], None] = lambda _: None

    def __post_init__(self) -> None:
        check_name(self.engine)
        for name in ("batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and not (is_whole(value) and value >= 1):
                raise DosimeterError(
                    f"{name} must be a whole number, 1 or more, got {value!r}. Leave it out, and it is found."
                )


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)
