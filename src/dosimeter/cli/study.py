"""`dosimeter study`: the part that needs torch."""

from collections.abc import Iterator, Sequence

import typer

from dosimeter.cli.display import Display
from dosimeter.cli.lines import say, tell
from dosimeter.report.answer import answer
from dosimeter.report.tracking import open_tracker, track
from dosimeter.study.config import StudyConfig
from dosimeter.study.estimate import Cost, counted, estimate
from dosimeter.study.planning import check_limits
from dosimeter.study.run import run_study
from dosimeter.study.trials import plan_trials


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


def print_plan(settings: StudyConfig) -> None:
    """Print what a study would do and about how long it would take here; of networks that are brought, not how long.

    These are loaded only to be audited, so that no pass of theirs is timed.
    """
    config = settings.resolved()
    trials, notes = plan_trials(config)
    check_limits(config, trials)
    with Display() as display:
        costs = list(counted(config, trials) if config.brought else estimate(config, trials, display))
    if config.native:
        notes.append("storing, resizing and measuring images at their own size is not in the estimate")
    total_s = None if config.brought else sum(cost.duration_s for cost in costs)
    facts = {
        "run": str(config.out),
        "epsilons": list(config.epsilons),
        "models": [cost._asdict() for cost in costs],
        "notes": notes,
        "duration_s": total_s,
    }
    tell(facts, *_plan(config, costs, notes, total_s))


def _plan(config: StudyConfig, costs: Sequence[Cost], notes: Sequence[str], total_s: float | None) -> Iterator[str]:
    yield f"run folder: {config.out}"
    yield f"epsilons: {', '.join(f'{epsilon:g}' for epsilon in config.epsilons)}"
    for cost in costs:
        work = f"{cost.n_test} to attack, {cost.n_forward} forward passes"
        if config.brought:
            yield f"{cost.cohort}, {cost.model}: {work}"
            continue
        stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in cost.stages.items())
        yield (
            f"{cost.cohort} ({cost.protocol}, seed {cost.seed}), {cost.model}: {cost.n_train} images to train on, "
            f"{work}, engine {cost.engine}, about {cost.duration_s / 60:.1f} min ({stages})"
        )
    yield from (f"note: {note}" for note in notes)
    if total_s is None:
        yield "how long that takes is not known: the networks are loaded only to be audited. Try --images 10 first."
    else:
        yield (
            f"about {total_s / 60:.1f} min in all on this machine, if nothing is cached yet and nothing else is running"
        )
