"""`dosimeter study`: the part that needs torch."""

import typer

from dosimeter.cli.display import Display
from dosimeter.cli.lines import say, tell
from dosimeter.report.answer import answer
from dosimeter.report.tracking import open_tracker, track
from dosimeter.study.config import StudyConfig
from dosimeter.study.run import run_study


def run(settings: StudyConfig, *, command: str, mlflow: str | None = None) -> None:
    """Run the study and print its answer and where its report is; with `mlflow` it is logged too."""
    tracker = open_tracker(mlflow) if mlflow else None
    try:
        with Display() as display:
            outcome = run_study(settings, progress=display, command=command)
    except KeyboardInterrupt:
        say("stopped; the same command continues here.", error=True, urgent=True)
        raise typer.Exit(130) from None
    for sentence in outcome.incomplete:
        say(f"INCOMPLETE: {sentence}", error=True, urgent=True)
    if outcome.reused:
        say("already finished: nothing was computed again.", error=True)
    said = [*answer(outcome.run.folder), f"report: {outcome.run.report}"]
    facts = {"run": str(outcome.run.folder), "report": str(outcome.run.report), "computed": not outcome.reused}
    facts |= {"incomplete": list(outcome.incomplete), "answer": said[:-1]}
    if tracker is not None:
        facts["mlflow_run"] = track(tracker, outcome.run.folder)
        said.append(f"MLflow run: {facts['mlflow_run']}")
    tell(facts, *said)
