"""`dosimeter shift`: what does a source cost that was not trained on?"""

from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli import options
from dosimeter.cli.display import Display
from dosimeter.cli.lines import AsJson, Quiet, say, tell


def shift(
    out: Annotated[Path, typer.Option(help="the folder to write to; each source has its run in it")],
    cohort: options.Cohorts = None,
    model: options.Models = None,
    attack: options.Attacks = None,
    effort: options.Effort = "quick",
    epsilons: options.Epsilons = "0.001,0.003,0.009",
    epochs: options.Epochs = None,
    test_limit: options.TestLimit = None,
    limit: options.Limit = None,
    data: options.Data = None,
    seed: options.Seed = 0,
    workers: options.Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Leave one source out of training, test on it, and say what that costs, before any attack.

    Writes source_shift.csv beside the runs. It refuses where sources carry one label each, and says why.
    """
    from dosimeter.files import replacing
    from dosimeter.presentation.values import plain, write_csv
    from dosimeter.study.source_shift import check_trained, gather, plan_shift, run_shift, sentences

    config = options.settings_of(
        cohort=cohort,
        model=model,
        preset="sound",
        attack=attack,
        effort=effort,
        epsilons=epsilons,
        epochs=epochs,
        test_limit=test_limit,
        limit=limit,
        data=data,
        seed=seed,
        workers=workers,
        visibility="none",
        out=out,
    ).resolved()
    check_trained(config)
    whole, sources = plan_shift(config)
    if sources.refused:
        say(f"left out of all, as they do not hold every class: {', '.join(sources.refused)}", error=True)
    with Display() as display:
        table = gather(run_shift(config, sources, display), whole)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "source_shift.csv") as temporary:
        write_csv(table, temporary)
    file = out / "source_shift.csv"
    rows = plain(table)
    tell(
        {"rows": rows, "refused": list(sources.refused), "table": str(file)}, *sentences(table), f"source shift: {file}"
    )
