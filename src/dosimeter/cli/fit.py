"""`dosimeter fit`: the last layer of any network, trained on a cohort; its card audits it on what was held out."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli import options
from dosimeter.cli.display import Display
from dosimeter.cli.lines import AsJson, Quiet, tell
from dosimeter.errors import DosimeterError


def fit(
    model: Annotated[str, typer.Argument(help="a model card, or timm:NAME, torchvision:NAME, monai:NAME")],
    data: Annotated[str, typer.Argument(help="labelled images: folder:PATH, csv:PATH, or a cohort")],
    out: Annotated[Path, typer.Option(help="the card to write; tensors and digests of the training images beside it")],
    weights: Annotated[
        Path | None, typer.Option(help="file of tensors for a network given by its name; its last layer may be another")
    ] = None,
    random_weights: options.RandomWeights = False,
    open_blocks: Annotated[
        int, typer.Option("--open", min=0, help="number of blocks before the last layer that are trained too")
    ] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="epochs of training these blocks")] = 5,
    protocol: Annotated[str, typer.Option(help="patient, paper or official: which images are held out")] = "patient",
    size_px: Annotated[
        int | None,
        typer.Option(min=8, max=4096, help="side of the network's images, if it is to be another than the source's"),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="mean of each channel, 0.5 or 0.485,0.456,0.406, where the source does not know it"),
    ] = None,
    std: Annotated[str | None, typer.Option(help="standard deviation of each channel, with --mean")] = None,
    channels: Annotated[int | None, typer.Option(help="1 for a network of grey images, or 3")] = None,
    positive: options.Positive = None,
    findings: options.Findings = None,
    classes: options.Classes = None,
    labels: options.Labels = None,
    label_tag: options.LabelTag = None,
    patients: options.Patients = None,
    limit: Annotated[int | None, typer.Option(min=10, help=options.described("limit"))] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the split and of the order of images")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train the last layer of a network on a cohort's training images, and write the card that audits it.

    `dosimeter audit --model CARD --data DATA` then leaves out the images that it was trained on.
    """
    from dosimeter.cohorts import load_cohort
    from dosimeter.cohorts.split import split
    from dosimeter.models.trained import accuracy_of, card_for, held_out, write_trained
    from dosimeter.models.transfer import TransferOptions, transfer
    from dosimeter.record.model_card import trained_on

    if out.suffix != ".toml":
        raise DosimeterError(f"out must be a model card, a name that ends in .toml, got {out.name}.")
    if out.exists():
        raise DosimeterError(f"the card {out.name} is there already. Give another --out, or remove it.")
    meant = options.meaning(positive=positive, findings=findings, classes=classes, labels=labels, label_tag=label_tag)
    cohort = load_cohort(data, limit=limit, seed=seed, patients=patients or "list", **meant)
    halves = split(cohort, protocol, seed=seed)
    before = trained_on(model)
    test = held_out(halves.test, before)
    planes = {"mean": options.triple(mean, "mean"), "std": options.triple(std, "std")}
    seen = {"size_px": size_px, "channels": channels, **planes}
    card = card_for(model, cohort, name=out.stem, weights=weights, random_weights=random_weights, seen=seen)
    recipe = TransferOptions(open_blocks=open_blocks, epochs=epochs, seed=seed)
    with Display() as display:
        made = transfer(card, halves.train, recipe, progress=display)
    write_trained(out, card, made, halves, before)
    right, n = accuracy_of(made.classifier, test)
    again = options.repeated(**meant, patients=patients)
    next_command = shlex.join(["dosimeter", "audit", "--model", str(out), "--data", data, *again])
    facts = {"card": str(out), "trained": list(made.trained), "n_train": len(halves.train), "protocol": protocol}
    tell(
        facts | {"seed": seed, "n_held_out": n, "n_right": right, "next": next_command},
        f"{out.name}: {', '.join(made.trained)} trained on {len(halves.train)} images; of {n} held out ({protocol}, "
        f"seed {seed}) {right} are right ({right / n:.1%}).",
        f"Then: {next_command}",
    )
