"""The study: settings, plans, the run from images to a report, and `dm.sweep`, its sweep alone."""

from dosimeter.former import attribute


def __getattr__(name: str) -> object:
    return attribute(__name__, name, "run")
