"""Listeners to a study's progress that keep what they are told."""

from dosimeter.progress import Progress


class Notes(Progress):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def begin(self, stage: str, total: int) -> None:
        self.stages.append(stage)

    def note(self, message: str) -> None:
        self.notes.append(message)


class Stages(Progress):
    """Keeps each stage's name, total and steps."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []

    def begin(self, stage: str, total: int) -> None:
        self.stages.append((stage, total, 0))

    def advance(self, steps: int = 1) -> None:
        stage, total, done = self.stages[-1]
        self.stages[-1] = (stage, total, done + steps)
