"""`dosimeter audit`: the study's sweep, checks and report for trained classifiers that somebody brings."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli import completion
from dosimeter.cli.lines import AsJson, Quiet
from dosimeter.cli.options import (
    Constant,
    Given,
    Modality,
    Severities,
    constants_of,
    described,
    joined,
    pairs,
    shown_command,
    warn_of_phantoms,
)
from dosimeter.record.model_card import access_of
from dosimeter.study.auditing import AUDIT, audit_of
from dosimeter.study.config import load_config


def audit(
    model: Annotated[
        list[str], typer.Option(help="a model card (.toml), or a folder with a classifier that dosimeter saved")
    ],
    data: Annotated[
        list[str], typer.Option(help="test images: folder:PATH, csv:PATH, or a cohort (dosimeter list cohorts)")
    ],
    trust: Annotated[bool, typer.Option("--trust", help=described("trust"))] = False,
    preset: Annotated[str | None, typer.Option(help=described("preset"), autocompletion=completion.presets)] = None,
    attack: Annotated[
        list[str] | None, typer.Option(help=described("attack"), autocompletion=completion.attacks)
    ] = None,
    severities: Severities = None,
    constant: Constant = None,
    given: Given = None,
    modality: Modality = None,
    effort: Annotated[str, typer.Option(help=described("effort"), autocompletion=completion.efforts)] = "quick",
    epsilons: Annotated[str, typer.Option(help=described("epsilons"))] = AUDIT["gradients"].epsilons,
    storage: Annotated[
        list[str] | None, typer.Option(help=described("storages"), autocompletion=completion.storages)
    ] = None,
    target: Annotated[str | None, typer.Option(help=described("target"))] = None,
    native: Annotated[bool | None, typer.Option("--native", help=described("native"))] = None,
    defence: Annotated[
        list[str] | None, typer.Option(help=described("defence"), autocompletion=completion.defences)
    ] = None,
    transfer: Annotated[bool | None, typer.Option("--transfer", help=described("transfer"))] = None,
    visibility: Annotated[str, typer.Option(help=described("visibility"))] = "none",
    declared_accuracy: Annotated[
        list[str] | None, typer.Option(help=described("declared_accuracy") + ", as NAME=SHARE")
    ] = None,
    group: Annotated[str | None, typer.Option(help=described("group"))] = None,
    data_audit: Annotated[bool, typer.Option("--data-audit/--no-data-audit", help=described("data_audit"))] = True,
    tuned_on_test: Annotated[str | None, typer.Option(help=described("tuned_on_test"))] = None,
    positive: Annotated[str | None, typer.Option(help=described("positive"))] = None,
    allow_flat: Annotated[bool, typer.Option("--allow-flat", help=described("allow_flat"))] = False,
    findings: Annotated[list[str] | None, typer.Option(help=described("findings"))] = None,
    classes: Annotated[list[str] | None, typer.Option(help=described("classes"))] = None,
    labels: Annotated[Path | None, typer.Option(help=described("labels"))] = None,
    patients: Annotated[str | None, typer.Option(help=described("patients"))] = None,
    label_tag: Annotated[str | None, typer.Option(help=described("label_tag"))] = None,
    images: Annotated[
        int | None, typer.Option(help="most test images, drawn of the data at random; default: all")
    ] = None,
    seed: Annotated[int | None, typer.Option(help=described("seed"))] = None,
    device: Annotated[str | None, typer.Option(help=described("device"))] = None,
    engine: Annotated[str | None, typer.Option(help=described("engine"), autocompletion=completion.engines)] = None,
    workers: Annotated[int | None, typer.Option(help=described("workers"))] = None,
    out: Annotated[Path | None, typer.Option(help=described("out"))] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="log the finished run to MLflow: URI of a server or data base, or a folder")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what would be asked of the models, and stop")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit trained classifiers: attack every test image, judge the evaluation, draw the report.

    The same command again continues where it stopped; `report`, `export`, `serve` and `readers` take its folder.
    """
    asked = audit_of(access_of(each.strip()) for each in (joined(model) or "").split(","))
    settings = load_config(
        model=joined(model),
        cohort=joined(data),
        trust=trust or None,
        preset=preset or asked.preset,
        protocol=asked.protocol,
        attack=joined(attack) or asked.attacks,
        severities=severities,
        constants=constants_of(constant),
        given=given,
        modality=modality,
        effort=effort,
        epsilons=epsilons,
        storages=joined(storage),
        target=target,
        native=native,
        defence=joined(defence),
        transfer=transfer,
        visibility=visibility,
        declared_accuracy=pairs(declared_accuracy, "--declared-accuracy takes NAME=SHARE", "mine=0.93"),
        group=group,
        data_audit=data_audit or None,
        tuned_on_test=tuned_on_test,
        positive=positive,
        allow_flat=allow_flat or None,
        findings=joined(findings),
        classes=joined(classes),
        labels=labels,
        patients=patients,
        label_tag=label_tag,
        test_limit=images,
        seed=seed,
        device=device,
        engine=engine,
        workers=workers,
        out=out,
    )
    from dosimeter.cli.study import print_plan, run

    warn_of_phantoms(settings)
    if dry_run:
        print_plan(settings)
    else:
        run(settings, command=shown_command(sys.argv[1:], settings, None), mlflow=mlflow)
