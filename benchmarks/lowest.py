"""Print the lowest versions of the dependencies that pyproject.toml allows, torch aside, as constraints for pip."""

import re
import tomllib
from pathlib import Path

NEWEST = ("torch", "torchvision")
"""What is too large to be installed twice, and whose old releases have no wheels for a new Python."""


def lowest(requirements: list[str]) -> list[str]:
    """Return "name==version" of each requirement "name>=version"."""
    found = (re.fullmatch(r"([\w-]+)>=([\w.]+)", requirement) for requirement in requirements)
    return [f"{each[1]}=={each[2]}" for each in found if each and each[1] not in NEWEST]


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join(lowest(project["dependencies"])))
