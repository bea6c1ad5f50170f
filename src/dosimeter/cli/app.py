"""`dosimeter study`, `report` and `list`, and the place where all commands meet."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from dosimeter import __version__
from dosimeter.cli import data, readers, weights
from dosimeter.cli.audit import audit
from dosimeter.cli.export import export
from dosimeter.cli.lines import say
from dosimeter.cli.serve import serve
from dosimeter.errors import DosimeterError
from dosimeter.plain import named
from dosimeter.study.config import StudyConfig, load_config

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measure how small a perturbation breaks a radiology image classifier. Research use; not a medical device.",
    epilog="The words of the options: dosimeter list words.",
)
app.add_typer(data.app, name="data")
app.add_typer(readers.app, name="readers")
app.add_typer(weights.app, name="weights")
app.command()(audit)
app.command()(export)
app.command()(serve)

PHANTOM_WARNING = (
    "PHANTOM DATA: these are computed thoraxes, not patients. The numbers show that the instrument works and nothing "
    "else. Set DOSIMETER_DATA or --data to a folder of real images (see `dosimeter data fetch`)."
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Options of the program itself."""
    if version:
        say(f"dosimeter {__version__}")
        raise typer.Exit


def _field(name: str) -> str:
    return StudyConfig.model_fields[name].description or ""


@app.command()
def study(
    config: Annotated[Path | None, typer.Argument(help="settings in TOML; options below win over it")] = None,
    cohort: Annotated[list[str] | None, typer.Option(help=_field("cohort"))] = None,
    model: Annotated[list[str] | None, typer.Option(help=_field("model"))] = None,
    protocol: Annotated[list[str] | None, typer.Option(help=_field("protocol"))] = None,
    preset: Annotated[list[str] | None, typer.Option(help=_field("preset"))] = None,
    attack: Annotated[list[str] | None, typer.Option(help=_field("attack"))] = None,
    effort: Annotated[str | None, typer.Option(help=_field("effort"))] = None,
    storage: Annotated[list[str] | None, typer.Option(help=_field("storages"))] = None,
    fill: Annotated[bool | None, typer.Option("--fill/--no-fill", help=_field("fill"))] = None,
    transfer: Annotated[bool | None, typer.Option("--transfer", help=_field("transfer"))] = None,
    target: Annotated[str | None, typer.Option(help=_field("target"))] = None,
    mask: Annotated[Path | None, typer.Option(help=_field("mask"))] = None,
    native: Annotated[bool | None, typer.Option("--native", help=_field("native"))] = None,
    bits: Annotated[int | None, typer.Option(help=_field("bits"))] = None,
    declared_accuracy: Annotated[
        list[str] | None, typer.Option(help=_field("declared_accuracy") + ", as NAME=SHARE")
    ] = None,
    epsilons: Annotated[str | None, typer.Option(help=_field("epsilons"))] = None,
    visibility: Annotated[str | None, typer.Option(help=_field("visibility"))] = None,
    seed: Annotated[int | None, typer.Option(help=_field("seed"))] = None,
    repeats: Annotated[int | None, typer.Option(help=_field("repeats"))] = None,
    out: Annotated[Path | None, typer.Option(help=_field("out"))] = None,
    data: Annotated[Path | None, typer.Option(help=_field("data"))] = None,
    limit: Annotated[int | None, typer.Option(help=_field("limit"))] = None,
    test_limit: Annotated[int | None, typer.Option(help=_field("test_limit"))] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help=_field("strict"))] = None,
    allow_flat: Annotated[bool | None, typer.Option("--allow-flat", help=_field("allow_flat"))] = None,
    patients: Annotated[str | None, typer.Option(help=_field("patients"))] = None,
    positive: Annotated[str | None, typer.Option(help=_field("positive"))] = None,
    weights: Annotated[list[str] | None, typer.Option(help="base weights, as NAME=FILE")] = None,
    preprocessing: Annotated[str | None, typer.Option(help=_field("preprocessing"))] = None,
    pool: Annotated[str | None, typer.Option(help=_field("pool"))] = None,
    epochs: Annotated[int | None, typer.Option(help=_field("epochs"))] = None,
    batch_size: Annotated[int | None, typer.Option(help=_field("batch_size"))] = None,
    learning_rate: Annotated[float | None, typer.Option(help=_field("learning_rate"))] = None,
    decay: Annotated[float | None, typer.Option(help=_field("decay"))] = None,
    device: Annotated[str | None, typer.Option(help=_field("device"))] = None,
    engine: Annotated[str | None, typer.Option(help=_field("engine"))] = None,
    executor: Annotated[str | None, typer.Option(help=_field("executor"))] = None,
    address: Annotated[str | None, typer.Option(help=_field("address"))] = None,
    workers: Annotated[int | None, typer.Option(help=_field("workers"))] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and its cost, and stop")] = False,
) -> None:
    """Run the study: fit, attack, measure, report. The same command again continues where it stopped.

    Lists take the option several times or commas: --cohort xray-268,covid-ct --epsilons "0.001,4/255".
    """
    settings = load_config(
        config,
        **{name: joined(value) for name, value in (("cohort", cohort), ("model", model), ("protocol", protocol))},
        preset=joined(preset),
        attack=joined(attack),
        effort=effort,
        storages=joined(storage),
        fill=fill,
        transfer=transfer,
        target=target,
        mask=mask,
        native=native,
        bits=bits,
        declared_accuracy=pairs(declared_accuracy, "--declared-accuracy takes NAME=SHARE", "vgg16=0.93"),
        epsilons=epsilons,
        visibility=visibility,
        seed=seed,
        repeats=repeats,
        out=out,
        data=data,
        limit=limit,
        test_limit=test_limit,
        strict=strict,
        allow_flat=allow_flat,
        patients=patients,
        positive=positive,
        weights=pairs(weights, "--weights takes NAME=FILE", "vgg16=weights.pth"),
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
    from dosimeter.cli.study import print_plan, run

    if settings.resolved().is_phantom:
        say("=" * 80, PHANTOM_WARNING, "=" * 80, error=True)
    if dry_run:
        print_plan(settings)
    else:
        run(settings, command=shown_command(sys.argv[1:], settings, config))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    partial: Annotated[
        bool, typer.Option("--partial", help="of a run that was interrupted, as far as it came")
    ] = False,
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
    say(*answer(run), f"report: {path}")


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(help="models, cohorts, attacks, storages, engines, checks ...")],
) -> None:
    """List what this version knows."""
    from dosimeter.cli.listing import listing

    for name, note in listing(what):
        say(f"{name:<18} {note}")


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="attack")], name: Annotated[str, typer.Argument(help="its name")]
) -> None:
    """Show all that is known of one thing: `dosimeter show attack pgd`."""
    from dosimeter.cli.listing import attack_facts

    if what != "attack":
        raise DosimeterError(f"'{what}' cannot be shown. Try `dosimeter show attack {name}`.")
    for fact, value in attack_facts(name):
        say(f"{fact:<10} {value}")


def shown_command(arguments: list[str], settings: StudyConfig, config: Path | None) -> str:
    """Return the command line without the folders it names: a folder may name a person, and the report shows it."""
    paths = [settings.data, settings.out, settings.mask, config, *settings.weights.values()]
    paths += [Path(name.partition(":")[2]) for name in settings.cohort if ":" in name]
    paths += [Path(name) for name in settings.model if settings.brought]
    shown = [re.sub(f"{re.escape(os.sep)}+", lambda _: os.sep, argument) for argument in arguments]
    for path in paths:
        if path is not None and path.parent != Path():
            shown = [argument.replace(f"{path.parent}{os.sep}", f"...{os.sep}") for argument in shown]
    return shlex.join(["dosimeter", *shown])


def joined(values: list[str] | None) -> str | None:
    """Return a repeated option as the comma-separated text that settings take.

    Raises:
        DosimeterError: it names nothing.
    """
    text = None if values is None else ",".join(values)
    if text is not None and not text.replace(",", "").strip():
        raise DosimeterError(f"an option that takes names must have one, got '{named(text)}'. Leave the option out.")
    return text


def pairs(values: list[str] | None, rule: str, example: str) -> dict[str, str] | None:
    """Return the NAME=VALUE of an option as a mapping."""
    if values is None:
        return None
    pairs = [value.partition("=") for value in values]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"{rule}, got '{named(name + equals + value)}'. Try {example}.")
    return {name: value for name, _, value in pairs}
