"""`dosimeter init`: a model card, as far as it can be known, with the evidence and the questions that are left."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli import options
from dosimeter.cli.lines import AsJson, Quiet, say, tell
from dosimeter.errors import DosimeterError
from dosimeter.files import write_text


def init(
    model: Annotated[
        str,
        typer.Argument(
            help="a file (.keras, .h5, .onnx, .pt, .pt2), a Hugging Face or MONAI folder, or timm:NAME, "
            "torchvision:NAME, xrv:NAME, monai:NAME, python:MODULE:FUNCTION"
        ),
    ],
    data: Annotated[
        str, typer.Argument(help="labelled images that it is made for: folder:PATH, csv:PATH, or a cohort")
    ],
    weights: Annotated[Path | None, typer.Option(help="file of tensors for a network given by its name")] = None,
    random_weights: options.RandomWeights = False,
    size_px: Annotated[
        str | None, typer.Option(help="side of the network's images, or HEIGHTxWIDTH, where its file says none")
    ] = None,
    images: Annotated[
        int, typer.Option(min=2, help="number of images that the network is asked about, of each class as many")
    ] = 16,
    positive: options.Positive = None,
    findings: options.Findings = None,
    classes: options.Classes = None,
    labels: options.Labels = None,
    label_tag: options.LabelTag = None,
    patients: options.Patients = None,
    trust: options.Trust = False,
    out: Annotated[
        Path | None, typer.Option(help="file of the card; default: named after the model, in this folder")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a model card: what the file says, what images speak for where it says nothing, and what is left to answer.

    Nothing is guessed. `dosimeter audit --model CARD` then refuses the card until its questions are answered.
    """
    from dosimeter.cohorts import load_cohort
    from dosimeter.models.opening import facts_of, open_model
    from dosimeter.models.proposal import propose

    name = _name(model)
    out = out or Path(f"{name}.toml")
    if out.exists():
        raise DosimeterError(f"the card {out.name} is there already. Give another --out, or remove it.")
    facts = facts_of(model, weights=weights, random_weights=random_weights)
    meant = options.meaning(positive=positive, findings=findings, classes=classes, labels=labels, label_tag=label_tag)
    cohort = load_cohort(data, patients=patients or "list", **meant)
    opened = open_model(facts, cohort.findings or cohort.classes, size_px=_size(size_px), trust=trust)
    say(f"{name} is loaded. Now it is asked about up to {images} images in usual ranges and sizes.", error=True)
    made = propose(opened, cohort, name=name, n_images=images, beside=out.parent)
    write_text(out, made.text)
    lines = [f"{out} is written."]
    if made.questions:
        asked = ", ".join(made.questions)
        lines.append(f"Answer in it: {asked}. The lines begin with '# ?', with the evidence above them.")
    chosen = [*options.repeated(**meant, patients=patients), *(("--trust",) if trust else ())]
    next_command = shlex.join(["dosimeter", "audit", "--model", str(out), "--data", data, *chosen])
    facts = {"card": str(out), "questions": list(made.questions), "next": next_command}
    tell(facts, *lines, f"Then: {next_command}")


def _name(model: str) -> str:
    """Return what a card calls the model: its name, or that of its file, in the letters that a card takes."""
    text = model.rpartition(":")[2] if ":" in model else Path(model).stem
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "._+-") else "-" for char in text).lstrip(
        "._+-"
    )
    return kept[:64] or "model"


def _size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise DosimeterError(f"--size-px must be a number, or HEIGHTxWIDTH, got '{text}'.")
    first, *rest = (int(side) for side in sides)
    return (first, rest[0]) if rest else first
