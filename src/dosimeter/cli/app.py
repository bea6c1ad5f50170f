"""`dosimeter study`, `report` and `list`, and the place where all commands meet."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from dosimeter import __version__
from dosimeter.cli import completion, data, options, readers, weights
from dosimeter.cli.audit import audit
from dosimeter.cli.compare import compare
from dosimeter.cli.defend import defend
from dosimeter.cli.doctor import doctor
from dosimeter.cli.export import export
from dosimeter.cli.fit import fit
from dosimeter.cli.gate import gate
from dosimeter.cli.init import init
from dosimeter.cli.learning_curve import learning_curve
from dosimeter.cli.lines import AsJson, Quiet, say, say_json, tell
from dosimeter.cli.listing import LISTED
from dosimeter.cli.paper import figures, methods, tables
from dosimeter.cli.serve import serve
from dosimeter.cli.shift import shift
from dosimeter.cli.showing import KINDS, LINES, facts_of

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Measure how small a perturbation breaks a radiology image classifier. Research use; not a medical device.",
    epilog="The words of the options: dosimeter list words.",
)
app.add_typer(data.app, name="data")
app.add_typer(readers.app, name="readers")
app.add_typer(weights.app, name="weights")
app.command()(audit)
app.command()(compare)
app.command()(doctor)
app.command()(export)
app.command()(fit)
app.command()(defend)
app.command()(learning_curve)
app.command()(shift)
app.command()(gate)
app.command()(init)
app.command()(serve)
app.command()(tables)
app.command()(figures)
app.command()(methods)


BOXES_WIDTH = 80
"""Columns of a terminal from which help in boxes has room; in fewer the names of options would be cut."""


def suit(program: typer.Typer) -> None:
    """Give help without boxes where the terminal is narrow."""
    if shutil.get_terminal_size().columns < BOXES_WIDTH:
        program.rich_markup_mode = None


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Options of the program itself."""
    if version:
        say(f"dosimeter {__version__}")
        raise typer.Exit


@app.command()
def study(
    config: Annotated[Path | None, typer.Argument(help="settings in TOML; options below win over it")] = None,
    cohort: options.Cohorts = None,
    model: options.Models = None,
    protocol: options.Protocols = None,
    preset: Annotated[list[str] | None, options.setting("preset", completion=completion.presets)] = None,
    attack: options.Attacks = None,
    severities: options.Severities = None,
    constant: options.Constants = None,
    given: options.Given = None,
    modality: options.Modality = None,
    effort: options.Effort = None,
    storage: options.Storages = None,
    fill: Annotated[bool | None, options.setting("fill", "--fill/--no-fill")] = None,
    trust: options.Trust = False,
    defence: options.Defences = None,
    transfer: options.Transfer = None,
    target: options.Target = None,
    mask: Annotated[Path | None, options.setting("mask")] = None,
    native: options.Native = None,
    bits: Annotated[int | None, options.setting("bits")] = None,
    declared_accuracy: options.DeclaredAccuracy = None,
    epsilons: options.Epsilons = None,
    visibility: options.Visibility = None,
    seed: options.Seed = None,
    repeats: Annotated[int | None, options.setting("repeats")] = None,
    out: options.Out = None,
    data: options.Data = None,
    limit: options.Limit = None,
    test_limit: options.TestLimit = None,
    train_patients: Annotated[int | None, options.setting("train_patients")] = None,
    strict: Annotated[bool | None, options.setting("strict", "--strict")] = None,
    allow_flat: options.AllowFlat = False,
    patients: options.Patients = None,
    group: options.Group = None,
    data_audit: Annotated[bool | None, options.setting("data_audit", "--data-audit")] = None,
    tuned_on_test: options.TunedOnTest = None,
    positive: options.Positive = None,
    findings: options.Findings = None,
    classes: options.Classes = None,
    labels: options.Labels = None,
    label_tag: options.LabelTag = None,
    weights: Annotated[list[str] | None, typer.Option(help="base weights, as NAME=FILE")] = None,
    preprocessing: Annotated[str | None, options.setting("preprocessing")] = None,
    pool: Annotated[str | None, options.setting("pool")] = None,
    epochs: options.Epochs = None,
    batch_size: Annotated[int | None, options.setting("batch_size")] = None,
    learning_rate: Annotated[float | None, options.setting("learning_rate")] = None,
    decay: Annotated[float | None, options.setting("decay")] = None,
    device: options.Device = None,
    engine: options.Engine = None,
    executor: Annotated[str | None, options.setting("executor", completion=completion.executors)] = None,
    address: Annotated[str | None, options.setting("address")] = None,
    workers: options.Workers = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what the study would do and about how long it would take, and stop")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the study: fit, attack, measure, report. The same command again continues where it stopped.

    Lists take the option several times or commas: --cohort xray-268,covid-ct --epsilons "0.001,4/255".
    """
    settings = options.settings_of(
        config,
        cohort=cohort,
        model=model,
        protocol=protocol,
        preset=preset,
        attack=attack,
        severities=severities,
        constants=options.constants_of(constant),
        given=given,
        modality=modality,
        effort=effort,
        storages=storage,
        fill=fill,
        trust=trust or None,
        defence=defence,
        transfer=transfer,
        target=target,
        mask=mask,
        native=native,
        bits=bits,
        declared_accuracy=options.pairs(declared_accuracy, "--declared-accuracy takes NAME=SHARE", "vgg16=0.93"),
        epsilons=epsilons,
        visibility=visibility,
        seed=seed,
        repeats=repeats,
        out=out,
        data=data,
        limit=limit,
        test_limit=test_limit,
        train_patients=train_patients,
        strict=strict,
        allow_flat=allow_flat or None,
        patients=patients,
        group=group,
        data_audit=data_audit,
        tuned_on_test=tuned_on_test,
        positive=positive,
        findings=findings,
        classes=classes,
        labels=labels,
        label_tag=label_tag,
        weights=options.pairs(weights, "--weights takes NAME=FILE", "vgg16=weights.pth"),
        preprocessing=preprocessing,
        pool=int(pool) if pool and pool.isdigit() else pool,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        decay=decay,
        device=device,
        engine=engine,
        executor=executor,
        address=address,
        workers=workers,
    )
    options.warn_of_phantoms(settings)
    if dry_run:
        from dosimeter.cli.plan import print_plan

        print_plan(settings)
    else:
        from dosimeter.cli.study import run

        run(settings, command=options.shown_command(sys.argv[1:], settings, config))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    partial: Annotated[
        bool, typer.Option("--partial", help="report a run that was interrupted, as far as it came")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw tables, figures and report again from the run's responses.parquet alone."""
    from dosimeter.cli.display import Display
    from dosimeter.record.run import held
    from dosimeter.report import redraw, redraw_partial, unreported
    from dosimeter.report.answer import answer

    with held(run), Display() as display:
        path = (redraw_partial if partial else redraw)(run, progress=display)
        if not partial and (sentence := unreported(run)):
            display.note(sentence)
    said = answer(run)
    tell({"run": str(run), "report": str(path), "answer": said}, *said, f"report: {path}")


@app.command(name="list")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            help="models, cohorts, attacks, storages, engines, checks ...", autocompletion=completion.of(*LISTED)
        ),
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List what this version knows."""
    from dosimeter.cli.listing import listing

    if as_json:
        say_json([{"name": name, "note": note} for name, note in listing(what)])
        return
    for name, note in listing(what):
        say(f"{name:<18} {note}")


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(help="attack, check, cohort, model or run", autocompletion=completion.of(*KINDS))
    ],
    name: Annotated[str, typer.Argument(help="its name; of a run its folder", autocompletion=completion.shown)],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show all that is known of one thing: `dosimeter show attack pgd`, `dosimeter show run RUN`."""
    facts = facts_of(what, name)
    if as_json:
        say_json(facts)
        return
    width = max(map(len, facts))
    for fact, value in facts.items():
        for line in value if isinstance(value, list) and fact in LINES else [value]:
            text = ", ".join(map(str, line)) if isinstance(line, list) else line
            say(f"{fact:<{width}} {text}")
