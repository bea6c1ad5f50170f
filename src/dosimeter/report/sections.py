"""The sections of a report, those of other packages too, in the page's order."""

from dosimeter import registry
from dosimeter.presentation.section import Section


def in_order() -> list[tuple[str, Section]]:
    """Return the name and the object of every section.

    Raises:
        DosimeterError: one of another package cannot be loaded.
    """
    found = ((name, registry.get("sections", name)) for name in registry.names("sections"))
    return sorted(found, key=lambda each: (each[1].rank, each[0]))
