"""How long work tells its caller where it is; the library itself prints nothing."""


class Progress:
    """Receives what happens and shows nothing. The command line draws bars or lines by overriding it."""

    def begin(self, stage: str, total: int) -> None:
        """Begin a stage of `total` steps."""

    def advance(self, steps: int = 1) -> None:
        """Count `steps` of the current stage as done."""

    def note(self, message: str) -> None:
        """Say one sentence that matters to the reader."""
