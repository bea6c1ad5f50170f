"""`dosimeter export`: adversarial images as files."""

from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli import options
from dosimeter.cli.lines import AsJson, Quiet, tell


def export(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    folder: Annotated[Path, typer.Argument(help="folder to write to; empty or absent")],
    storage: Annotated[str, typer.Option(help="how images are stored (see `dosimeter list storages`)")],
    epsilon: Annotated[
        str | None, typer.Option(help='perturbation budget of an attack, a fraction of the image range, or as "4/255"')
    ] = None,
    severity: Annotated[
        float | None, typer.Option(help="in place of epsilon, a severity that the run asked of a physical change")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="attack or physical change; default: the sound preset, or the run's first")
    ] = None,
    model: Annotated[str | None, typer.Option(help="the attacked network; default: all")] = None,
    cohort: Annotated[str | None, typer.Option(help="whose images; default: all cohorts")] = None,
    limit: Annotated[int | None, typer.Option(help="most images of each cohort and network")] = None,
    burn_in: Annotated[bool, typer.Option("--burn-in", help="draw the research mark into the pixels too")] = False,
    data: Annotated[Path | None, typer.Option(help="folder of the real images, if it has moved")] = None,
    trust: options.Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a run's adversarial or physically changed images, and their originals, as files for a viewer or PACS test.

    Nothing of the source's header is kept, every file is marked as made for research, and manifest.json has the hashes
    and what the classifier says of each file.
    """
    from dosimeter.cli.display import Display
    from dosimeter.replay.export import export as write
    from dosimeter.units import Epsilon

    dose = None if epsilon is None else Epsilon(epsilon)
    with Display() as display:
        done = write(
            run,
            folder,
            storage=storage,
            epsilon=dose,
            severity=severity,
            preset=preset,
            model=model,
            cohort=cohort,
            limit=limit,
            burn_in=burn_in,
            data=data,
            trust=trust,
            progress=display,
        )
    tell(
        {**done._asdict(), "folder": str(done.folder)},
        f"{done.n_images} {'adversarial' if severity is None else 'changed'} images and their originals: {done.folder}",
        f"of the {done.n_correct} whose original file is classified correctly, {done.n_flipped} are misclassified",
    )
