"""`dosimeter learning-curve`: would more data help?"""

from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli import options
from dosimeter.cli.display import Display
from dosimeter.cli.lines import AsJson, Quiet, tell
from dosimeter.errors import DosimeterError


def learning_curve(
    out: Annotated[Path, typer.Option(help="the folder to write to; each size has its run in it")],
    cohort: options.Cohorts = None,
    model: options.Models = None,
    sizes: Annotated[str, typer.Option(help="how many sizes, or numbers of training patients as 20,40,80")] = "5",
    repeats: Annotated[int, typer.Option(min=1, help=options.described("repeats"))] = 3,
    protocol: options.Protocols = None,
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
    """Train on more and more patients, and measure accuracy, robust accuracy and epsilon50 with each number of them.

    Writes learning_curve.csv, .svg and .png beside the runs. A smaller training set is part of the larger one of its
    seed.
    """
    from dosimeter.files import replacing
    from dosimeter.presentation.learning_curve import draw
    from dosimeter.presentation.style import save
    from dosimeter.presentation.values import plain, write_csv
    from dosimeter.study.learning_curve import gather, run_steps
    from dosimeter.study.learning_curve import sizes as spread

    config = options.settings_of(
        cohort=cohort,
        model=model,
        protocol=protocol,
        preset="sound",
        attack=attack,
        effort=effort,
        epsilons=epsilons,
        epochs=epochs,
        test_limit=test_limit,
        limit=limit,
        data=data,
        seed=seed,
        repeats=repeats,
        workers=workers,
        visibility="none",
        out=out,
    ).resolved()
    if config.brought:
        raise DosimeterError("a learning curve trains its models: name backbones, as --model vgg16.")
    numbers = _numbers(sizes)
    with Display() as display:
        asked = spread(config, numbers[0]) if len(numbers) == 1 else numbers
        steps = list(run_steps(config, asked, display))
    table = gather(steps)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "learning_curve.csv") as temporary:
        write_csv(table, temporary)
    svg, _ = save(draw(table), out / "learning_curve")
    clean = table[(table["quantity"] == "accuracy") & table["epsilon"].isna()].to_dict("records")
    said = [
        f"{row['model']} on {row['cohort']} ({row['protocol']} protocol), {row['patients']} patients, {row['images']} "
        f"images: {row['mean']:.1%} right without attack"
        for row in clean
    ]
    tell({"figure": str(svg), "rows": plain(table)}, *said, f"learning curve: {svg}")


def _numbers(text: str) -> list[int]:
    """Return how many sizes, alone, or the sizes.

    Raises:
        DosimeterError: they are no whole numbers from 2 on, ascending.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise DosimeterError(f"sizes must be a whole number, or several with commas, got '{text}'. Try 5, or 20,40,80.")
    numbers = [int(part) for part in parts]
    if numbers[0] < 2 or numbers != sorted(set(numbers)):
        raise DosimeterError(f"sizes must be whole numbers from 2 on, ascending, got '{text}'. Try 5, or 20,40,80.")
    return numbers
