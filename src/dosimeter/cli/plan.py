"""`--dry-run`: what a study or an audit would do; without the reports, whose packages take seconds to load."""

from collections.abc import Iterator, Sequence

from dosimeter.cli.display import Display
from dosimeter.cli.lines import tell
from dosimeter.study.config import StudyConfig
from dosimeter.study.estimate import Cost, counted, estimate
from dosimeter.study.planning import check_limits
from dosimeter.study.trials import plan_trials


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
