"""`dosimeter audit`: the study's sweep, checks and report for trained classifiers that somebody brings."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.study.config import StudyConfig, load_config

AUDIT = {
    "preset": "sound",
    "attack": "random_sign,pgd,fmn,square",
    "epsilons": "0.0005,0.001,0.002,1/255,2/255,4/255,8/255",
    "protocol": "whole",
}
"""What an audit asks unless it is told otherwise: one step, many steps, the nearest image, scores alone, and noise."""


def _field(name: str) -> str:
    return StudyConfig.model_fields[name].description or ""


def audit(
    model: Annotated[
        list[str], typer.Option(help="a model card (.toml), or a folder with a classifier that dosimeter saved")
    ],
    data: Annotated[
        list[str], typer.Option(help="test images: folder:PATH, csv:PATH, or a cohort (dosimeter list cohorts)")
    ],
    trust: Annotated[bool, typer.Option("--trust", help=_field("trust"))] = False,
    attack: Annotated[list[str] | None, typer.Option(help=_field("attack"))] = None,
    effort: Annotated[str, typer.Option(help=_field("effort"))] = "quick",
    epsilons: Annotated[str, typer.Option(help=_field("epsilons"))] = AUDIT["epsilons"],
    storage: Annotated[list[str] | None, typer.Option(help=_field("storages"))] = None,
    target: Annotated[str | None, typer.Option(help=_field("target"))] = None,
    native: Annotated[bool | None, typer.Option("--native", help=_field("native"))] = None,
    transfer: Annotated[bool | None, typer.Option("--transfer", help=_field("transfer"))] = None,
    visibility: Annotated[str, typer.Option(help=_field("visibility"))] = "none",
    declared_accuracy: Annotated[
        list[str] | None, typer.Option(help=_field("declared_accuracy") + ", as NAME=SHARE")
    ] = None,
    positive: Annotated[str | None, typer.Option(help=_field("positive"))] = None,
    images: Annotated[int | None, typer.Option(help="test images drawn of the data; default: all")] = None,
    seed: Annotated[int | None, typer.Option(help=_field("seed"))] = None,
    device: Annotated[str | None, typer.Option(help=_field("device"))] = None,
    engine: Annotated[str | None, typer.Option(help=_field("engine"))] = None,
    workers: Annotated[int | None, typer.Option(help=_field("workers"))] = None,
    out: Annotated[Path | None, typer.Option(help=_field("out"))] = None,
) -> None:
    """Audit trained classifiers: attack every test image, judge the evaluation, draw the report.

    The same command again continues where it stopped; `report`, `export`, `serve` and `readers` take its folder.
    """
    from dosimeter.cli.app import joined, pairs, shown_command

    settings = load_config(
        model=joined(model),
        cohort=joined(data),
        trust=trust or None,
        preset=AUDIT["preset"],
        protocol=AUDIT["protocol"],
        attack=joined(attack) or AUDIT["attack"],
        effort=effort,
        epsilons=epsilons,
        storages=joined(storage),
        target=target,
        native=native,
        transfer=transfer,
        visibility=visibility,
        declared_accuracy=pairs(declared_accuracy, "--declared-accuracy takes NAME=SHARE", "mine=0.93"),
        positive=positive,
        test_limit=images,
        seed=seed,
        device=device,
        engine=engine,
        workers=workers,
        out=out,
    )
    from dosimeter.cli.app import PHANTOM_WARNING
    from dosimeter.cli.lines import say
    from dosimeter.cli.study import run

    if settings.resolved().is_phantom:
        say("=" * 80, PHANTOM_WARNING, "=" * 80, error=True)
    run(settings, command=shown_command(sys.argv[1:], settings, None))
