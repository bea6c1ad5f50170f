"""A finished run's images again: to look at, to export, for a study with readers."""

from dosimeter.former import attribute


def __getattr__(name: str) -> object:
    return attribute(__name__, name, "replay")
