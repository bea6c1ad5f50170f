"""`dosimeter study`: the part that needs torch."""

import typer

from dosimeter.cli.display import Display
from dosimeter.cli.lines import say
from dosimeter.errors import DosimeterError
from dosimeter.report.answer import answer
from dosimeter.report.tracking import open_tracker, track
from dosimeter.study.config import StudyConfig
from dosimeter.study.estimate import estimate
from dosimeter.study.planning import check_limits
from dosimeter.study.run import run_study
from dosimeter.study.trials import plan_trials


def run(settings: StudyConfig, *, command: str, mlflow: str | None = None) -> None:
    """Run the study and print where its report is; with `mlflow` it is logged there too (see `report.tracking`)."""
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
    say(*answer(outcome.run.folder), f"report: {outcome.run.report}")
    if tracker is not None:
        say(f"MLflow run: {track(tracker, outcome.run.folder)}")


def print_plan(settings: StudyConfig) -> None:
    """Print what a study would do and about how long it would take here."""
    config = settings.resolved()
    if config.brought:
        raise DosimeterError(
            f"--dry-run must be of networks that a study trains, got {', '.join(config.names)}. Audit a few images "
            "first."
        )
    trials, notes = plan_trials(config)
    check_limits(config, trials)
    total_s = 0.0
    say(f"run folder: {config.out}", f"epsilons: {', '.join(f'{epsilon:g}' for epsilon in config.epsilons)}")
    with Display() as display:
        costs = list(estimate(config, trials, display))
    for cost in costs:
        total_s += cost.duration_s
        stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in cost.stages.items())
        say(
            f"{cost.cohort} ({cost.protocol}, seed {cost.seed}), {cost.model}: {cost.n_train} images to train on, "
            f"{cost.n_test} to attack, {cost.n_forward} forward passes, engine {cost.engine}, about "
            f"{cost.duration_s / 60:.1f} min ({stages})"
        )
    if config.native:
        notes.append("storing, resizing and measuring images at their own size is not in the estimate")
    for note in notes:
        say(f"note: {note}")
    say(f"about {total_s / 60:.1f} min in all on this machine, if nothing is cached yet and nothing else is running")
