"""`dosimeter readers`: what people see of a perturbation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dosimeter.cli import options
from dosimeter.cli.lines import AsJson, Quiet, say, say_json, tell
from dosimeter.cli.serving import Browser, Host, Page, PasswordFile, Port, need_app, serve_page
from dosimeter.units import parse_epsilons

if TYPE_CHECKING:
    from dosimeter.readers.design import Design
    from dosimeter.readers.store import Store

app = typer.Typer(no_args_is_help=True, help="Reader studies: make, serve, fit, export, and join them to a run.")

Study = Annotated[Path, typer.Argument(help="the study's folder")]
RunFolder = Annotated[Path, typer.Argument(help="the folder of a finished run")]


@app.command()
def new(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="the study's folder, to be made")],
    epsilons: Annotated[
        str, typer.Option(help="perturbation budgets of the images shown, such as 0.003,0.009,8/255; two at least")
    ],
    images: Annotated[
        int, typer.Option(help="number of images, each shown at every epsilon; 20 to 40 are advised")
    ] = 20,
    cohort: Annotated[str | None, typer.Option(help="whose images; needed if the run has several")] = None,
    protocol: Annotated[str | None, typer.Option(help="the split; needed if the run has several")] = None,
    model: Annotated[str | None, typer.Option(help="the attacked network; needed if the run has several")] = None,
    preset: Annotated[str | None, typer.Option(help="the attack; default: sound, if the run has it")] = None,
    seed: Annotated[int | None, typer.Option(help="the run's seed; needed if it has several")] = None,
    shuffle: Annotated[int, typer.Option(help="seed of the images chosen, of sides and orders")] = 0,
    window: Annotated[str, typer.Option(help="grey window: locked, or free for readers to change")] = "locked",
    break_every: Annotated[int, typer.Option(help="pairs shown between two breaks")] = 40,
    data: Annotated[Path | None, typer.Option(help="folder of the real images, if it has moved")] = None,
    trust: options.Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a study of pairs, one image altered: images x epsilons x {attack, random signs}, and identical pairs."""
    from dosimeter.cli.display import Display
    from dosimeter.errors import DosimeterError
    from dosimeter.replay.reader_study import Options, blind_epsilons, make_study

    if window not in ("locked", "free"):
        raise DosimeterError(f"window must be locked or free, got '{window}'. Try --window free.")
    chosen: Literal["locked", "free"] = "free" if window == "free" else "locked"
    named = {"cohort": cohort, "protocol": protocol, "model": model, "preset": preset, "seed": seed}
    curve = {name: value for name, value in named.items() if value is not None}
    options = Options(parse_epsilons(epsilons), images, curve, shuffle, chosen, break_every)
    with Display() as display:
        design = make_study(run, out, options, data=data, trust=trust, progress=display)
    shown = ", ".join(f"{epsilon:g}" for epsilon in design.epsilons)
    for epsilon in blind_epsilons(design):
        say(f"note: at epsilon {epsilon:g} both images are the same in 8 bits: nothing is to be seen", error=True)
    tell(
        {"study": design.study_id, "folder": str(out), "n_trials": len(design.pairs),
         "n_practice": len(design.practice), "epsilons": list(design.epsilons)},
        f"study {design.study_id}: {len(design.pairs)} trials a reader, {len(design.practice)} for practice",
        f"epsilons {shown}",
        f"next: dosimeter readers serve {out}",
    )  # fmt: skip


@app.command()
def fit(study: Study, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Print thresholds with their intervals, for each reader and for all."""
    from dosimeter.readers.results import results, sentences

    found = results(*_opened(study))
    if as_json:
        say_json(found)
        return
    for sentence in sentences(found):
        say(sentence)


@app.command()
def export(
    study: Study,
    file: Annotated[Path, typer.Argument(help="file to write: FILE.csv or FILE.parquet")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write all answers as a table, readers known by number only."""
    from dosimeter.readers.export import export_answers

    design, store = _opened(study)
    n = export_answers(design, store, file)
    facts = {"file": str(file), "n_answers": n, "simulated": store.simulated}
    tell(facts, f"{file}: {n} answers" + (", SIMULATED" if store.simulated else ""))


@app.command()
def simulate(
    study: Study,
    threshold: Annotated[str, typer.Option(help="the epsilon at which readers are right in 75 % of pairs")],
    n: Annotated[int, typer.Option(help="number of readers")] = 3,
    width: Annotated[
        float,
        typer.Option(
            help="decades of epsilon in which readers come from 5 % to 95 % of the way from guessing to certainty"
        ),
    ] = 0.6,
    lapse: Annotated[float, typer.Option(help="share of pairs that readers get wrong by carelessness")] = 0.02,
    seed: Annotated[int, typer.Option(help="seed of their answers")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let readers with a known threshold answer, to test a study before people do. Such a study stays simulated."""
    from dosimeter.errors import DosimeterError
    from dosimeter.readers.psychometric import Curve
    from dosimeter.readers.simulate import simulate as answer
    from dosimeter.units import Epsilon

    if n < 1:
        raise DosimeterError(f"n must be at least 1 reader, got {n}. Try --n 3.")
    _, store = _opened(study)
    answer(store, curve=Curve.through(Epsilon(threshold), width=width, lapse=lapse), n_readers=n, seed=seed)
    said = f"SIMULATED: {n} readers answered. This study is for testing only; nobody looked at an image."
    tell({"n_readers": n, "simulated": True}, said)


@app.command()
def join(study: Study, run: RunFolder, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Put what the readers saw into the run's table; `dosimeter report RUN` then shows it."""
    from dosimeter.readers.joining import join as put

    said, then = put(*_opened(study), run), f"dosimeter report {run}"
    tell({"joined": said, "next": then}, said, f"next: {then}")


@app.command()
def serve(
    study: Study,
    port: Port = 0,
    host: Host = "127.0.0.1",
    password_file: PasswordFile = None,
    browser: Browser = True,
    quiet: Quiet = False,
) -> None:
    """Let readers answer in a browser. The explorer is not served beside it: it would tell them the answers."""
    need_app()
    from dosimeter.app.reader import HOME, reader_router
    from dosimeter.readers.sittings import Sittings

    sittings = Sittings(study)
    page = Page("reader study", HOME, "; every answer is saved at once.", "can answer", lambda: reader_router(sittings))
    serve_page(page, host=host, port=port, password_file=password_file, browser=browser)


def _opened(study: Path) -> "tuple[Design, Store]":
    from dosimeter.readers.design import read_design
    from dosimeter.readers.store import Store

    design = read_design(study)
    return design, Store(study, design)
