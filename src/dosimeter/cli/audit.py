"""`dosimeter audit`: the study's sweep, checks and report for trained classifiers that somebody brings."""

import sys
from typing import Annotated

import typer

from dosimeter.cli import completion, options
from dosimeter.cli.lines import AsJson, Quiet
from dosimeter.record.model_card import access_of
from dosimeter.study.auditing import AUDIT, audit_of


def audit(
    model: Annotated[
        list[str], typer.Option(help="a model card (.toml), or a folder with a classifier that dosimeter saved")
    ],
    data: Annotated[
        list[str], typer.Option(help="test images: folder:PATH, csv:PATH, or a cohort (dosimeter list cohorts)")
    ],
    trust: options.Trust = False,
    preset: Annotated[str | None, options.setting("preset", completion=completion.presets)] = None,
    attack: options.Attacks = None,
    severities: options.Severities = None,
    constant: options.Constants = None,
    given: options.Given = None,
    modality: options.Modality = None,
    effort: options.Effort = "quick",
    epsilons: options.Epsilons = AUDIT["gradients"].epsilons,
    storage: options.Storages = None,
    target: options.Target = None,
    native: options.Native = None,
    defence: options.Defences = None,
    transfer: options.Transfer = None,
    visibility: options.Visibility = "none",
    declared_accuracy: options.DeclaredAccuracy = None,
    group: options.Group = None,
    data_audit: Annotated[bool, options.setting("data_audit", "--data-audit/--no-data-audit")] = True,
    tuned_on_test: options.TunedOnTest = None,
    positive: options.Positive = None,
    allow_flat: options.AllowFlat = False,
    findings: options.Findings = None,
    classes: options.Classes = None,
    labels: options.Labels = None,
    patients: options.Patients = None,
    label_tag: options.LabelTag = None,
    images: Annotated[
        int | None, typer.Option(help="most test images, drawn of the data at random; default: all")
    ] = None,
    seed: options.Seed = None,
    device: options.Device = None,
    engine: options.Engine = None,
    workers: options.Workers = None,
    out: options.Out = None,
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
    asked = audit_of(access_of(each.strip()) for each in (options.joined(model) or "").split(","))
    settings = options.settings_of(
        model=model,
        cohort=data,
        trust=trust or None,
        preset=preset or asked.preset,
        protocol=asked.protocol,
        attack=options.joined(attack) or asked.attacks,
        severities=severities,
        constants=options.constants_of(constant),
        given=given,
        modality=modality,
        effort=effort,
        epsilons=epsilons,
        storages=storage,
        target=target,
        native=native,
        defence=defence,
        transfer=transfer,
        visibility=visibility,
        declared_accuracy=options.pairs(declared_accuracy, "--declared-accuracy takes NAME=SHARE", "mine=0.93"),
        group=group,
        data_audit=data_audit or None,
        tuned_on_test=tuned_on_test,
        positive=positive,
        allow_flat=allow_flat or None,
        findings=findings,
        classes=classes,
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
    options.warn_of_phantoms(settings)
    if dry_run:
        from dosimeter.cli.plan import print_plan

        print_plan(settings)
    else:
        from dosimeter.cli.study import run

        run(settings, command=options.shown_command(sys.argv[1:], settings, None), mlflow=mlflow)
