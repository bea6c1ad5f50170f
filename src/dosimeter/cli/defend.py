"""`dosimeter defend`: a trained classifier, defended by what its defences learn; a folder that audit takes."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli import options
from dosimeter.cli.display import Display
from dosimeter.cli.lines import AsJson, Quiet, tell
from dosimeter.errors import DosimeterError


def defend(
    model: Annotated[str, typer.Option(help="a model card (.toml), or a folder with a saved classifier")],
    data: Annotated[str, typer.Option(help="labelled images: folder:PATH, csv:PATH, or a cohort")],
    defence: Annotated[
        list[str],
        typer.Option(help="a defence, as input_size:56+jpeg:75 (dosimeter list defences); repeat for several"),
    ],
    out: Annotated[Path, typer.Option(help="the folder to write; of several defences one in it for each")],
    protocol: Annotated[
        str, typer.Option(help="patient, paper or official: which images are held out, and not learned on")
    ] = "patient",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what learning will cost, and do nothing")] = False,
    trust: options.Trust = False,
    positive: options.Positive = None,
    findings: options.Findings = None,
    classes: options.Classes = None,
    labels: options.Labels = None,
    label_tag: options.LabelTag = None,
    patients: options.Patients = None,
    limit: Annotated[int | None, typer.Option(min=10, help=options.described("limit"))] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the split, and of what the defences draw")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Defend a trained classifier, and save it.

    Defences learn on the cohort's training images alone. The audit of both classifiers, which the last line spells out,
    leaves these out, attacks either, and judges what the defence is worth.
    """
    from dosimeter.cohorts import load_cohort
    from dosimeter.cohorts.split import split
    from dosimeter.defences.base import pipeline, train
    from dosimeter.defences.cost import learning_s
    from dosimeter.defences.saved import bring, save_defended
    from dosimeter.models.trained import accuracy_of, held_out
    from dosimeter.record.model_card import DEFENDED, name_of, trained_on
    from dosimeter.study.planning import require_classes

    for text in defence:
        pipeline(text)
    if (Path(model) / DEFENDED).exists():
        raise DosimeterError(
            f"model must be an undefended one, got {name_of(model)}. Defend the undefended one by all "
            "defences, joined by plus signs."
        )
    folders = {text: out if len(defence) == 1 else out / _slug(text) for text in defence}
    for folder in folders.values():
        if (folder / DEFENDED).exists():
            raise DosimeterError(
                f"{folder.name} holds a defended classifier already. Give another --out, or remove it."
            )
    meant = options.meaning(positive=positive, findings=findings, classes=classes, labels=labels, label_tag=label_tag)
    cohort = load_cohort(data, limit=limit, seed=seed, patients=patients or "list", **meant)
    halves = split(cohort, protocol, seed=seed)
    before = trained_on(model)
    test = held_out(halves.test, before)
    name = name_of(model)
    bare = bring(model, trust=trust).with_card(model=name)
    require_classes(bare, cohort)
    if bare.access != "gradients":
        raise DosimeterError(
            f"{name} is only asked for {bare.access}: defences learn from its feature maps and gradients. Defend the "
            "network itself."
        )
    if dry_run:
        n_train = len(halves.train)
        expected_s = {text: learning_s(bare, text, n_train) for text in defence}
        tell(
            {"n_train": n_train, "learning_s": expected_s},
            *(f"{text}: learning on {n_train} images takes about {each:.0f} s" for text, each in expected_s.items()),
        )
        return
    digests = [*sorted(before), *(record.sha256 for record in halves.train.records)]
    again = options.repeated(**meant, patients=patients)
    lines, found = [], []
    for text, folder in folders.items():
        with Display() as display:
            trained = train(bare, text, halves.train, seed=seed, kept=out / "learned", progress=display)
        save_defended(folder, trained, undefended=Path(model), name=name, seed=seed, training=digests)
        right, n = accuracy_of(trained.classifier, test)
        held = f"{n} images held out ({protocol}, seed {seed})"
        lines.append(f"{folder}: of {held} {right} are right and accepted ({right / n:.1%}).")
        found.append({"folder": str(folder), "defence": text, "n_held_out": n, "n_right": right})
    models = [part for each in (model, *map(str, folders.values())) for part in ("--model", each)]
    next_command = shlex.join(["dosimeter", "audit", *models, "--data", data, *again])
    tell({"defended": found, "next": next_command}, *lines, f"Then: {next_command}")


def _slug(text: str) -> str:
    return "".join(character if character.isalnum() or character in "_-." else "-" for character in text)
