"""`dosimeter data`: the images."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dosimeter.cli import completion
from dosimeter.cli.lines import AsJson, Quiet, say, say_json, tell
from dosimeter.cli.options import names_of

app = typer.Typer(no_args_is_help=True, help="The images: list, look at, check and fetch them.")

Name = Annotated[str, typer.Argument(help="a cohort: see `dosimeter data list`", autocompletion=completion.cohorts)]
Data = Annotated[Path | None, typer.Option(help="folder of the real images; default: $DOSIMETER_DATA")]
Positive = Annotated[str | None, typer.Option(help="the positive class of a folder: or csv: cohort")]
Patients = Annotated[
    str,
    typer.Option(
        help="how images of one patient are known: list, by the cohort's list; dicom, by PatientID where that is silent"
    ),
]
Findings = Annotated[
    list[str] | None, typer.Option(help="columns of a list, a finding each; for an archive (npz:) the findings' names")
]
Classes = Annotated[list[str] | None, typer.Option(help="names of the labels 0, 1 ... of an archive (npz:)")]
Labels = Annotated[Path | None, typer.Option(help="CSV file that lists the files of a folder: cohort")]
LabelTag = Annotated[str | None, typer.Option(help="DICOM tag that is the label in a folder: cohort")]
Limit = Annotated[int | None, typer.Option(help="most images taken")]


@app.command(name="list")
def list_(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the cohorts this version knows."""
    from dosimeter.cli.listing import listing

    if as_json:
        say_json([{"name": name, "note": note} for name, note in listing("cohorts")])
        return
    for name, note in listing("cohorts"):
        say(f"{name:<16} {note}")


@app.command()
def info(
    name: Name,
    data: Data = None,
    positive: Positive = None,
    limit: Limit = None,
    patients: Patients = "list",
    findings: Findings = None,
    classes: Classes = None,
    labels: Labels = None,
    label_tag: LabelTag = None,
    cases: Annotated[bool, typer.Option("--cases", help="print which file each case id stands for")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show a cohort's classes, counts, patients and digest.

    Outputs of a study name cases, never files; `--cases` gives the key to them, for your eyes only.
    """
    from dosimeter.cohorts import load_cohort
    from dosimeter.cohorts.copies import copies, two_labels

    more = {"labels": labels, "label_tag": label_tag, **names_of(findings=findings, classes=classes)}
    cohort = load_cohort(name, data=data, positive=positive, limit=limit, patients=patients, **more)
    known = {record.patient_id for record in cohort.records if record.patient_id is not None}
    n_copies, n_in_doubt = (sum(map(len, groups)) for groups in (copies(cohort), two_labels(cohort)))
    facts: dict[str, Any] = {
        "cohort": cohort.name,
        "modality": cohort.modality or "not declared",
        "images": len(cohort),
        "classes": cohort.counts,
        "positive class": "none" if cohort.positive_place is None else cohort.classes[cohort.positive_place],
        **({"findings": cohort.finding_counts} if cohort.findings else {}),
        "patients": len(known) or "not known",
        "left out": len(cohort.skipped),
        "copies": f"{n_copies} images, {n_in_doubt} of them under two labels",
        "sha256": cohort.sha256,
    }
    if cases:
        facts["cases"] = {record.case_id: record.name for record in cohort.records}
    if as_json:
        say_json(facts | {"not read": list(cohort.notes)})
        return
    for key, value in facts.items():
        shown = value
        if key == "classes":
            shown = ", ".join(f"{inner} {n}" for inner, n in value.items())
        elif key == "findings":
            shown = "; ".join(f"{name} {n['present']} present, {n['absent']} absent, {n['unknown']} unknown"
                              for name, n in value.items())  # fmt: skip
        if key == "cases":
            say(*(f"{case_id}  {file}" for case_id, file in value.items()))
        else:
            say(f"{key + ':':<16} {shown}")
    say(*(f"not read:        {sentence}" for sentence in cohort.notes))


@app.command()
def check(
    name: Name,
    data: Data = None,
    positive: Positive = None,
    limit: Limit = None,
    patients: Patients = "list",
    findings: Findings = None,
    classes: Classes = None,
    labels: Labels = None,
    label_tag: LabelTag = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check a cohort: counts, sizes, patients in both splits, duplicates, and whether the source gives the label away.

    Exit code 0 whatever it finds: a finding is information, not a failure of the command.
    """
    from dosimeter.cohorts import load_cohort
    from dosimeter.cohorts.audit import audit

    more = {"labels": labels, "label_tag": label_tag, **names_of(findings=findings, classes=classes)}
    found = audit(load_cohort(name, data=data, positive=positive, limit=limit, patients=patients, **more))
    if as_json:
        say_json([asdict(finding) for finding in found])
        return
    for finding in found:
        say(f"{finding.level.upper():<5} {finding.check:<40} {finding.message}")


@app.command()
def audit(
    name: Name,
    data: Data = None,
    positive: Positive = None,
    limit: Limit = None,
    patients: Patients = "list",
    findings: Findings = None,
    classes: Classes = None,
    labels: Labels = None,
    label_tag: LabelTag = None,
    protocol: Annotated[str | None, typer.Option(help="paper, patient or official: the split in use")] = None,
    seed: Annotated[int, typer.Option(help="seed of that split")] = 0,
    group: Annotated[str, typer.Option(help="what the split keeps together: patient or duplicates")] = "patient",
    tuned_on_test: Annotated[
        str | None, typer.Option(help="yes or no: whether choices were made on the test images")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="a model card (.toml) or saved classifier, whose AUC without the centre of images is measured"
        ),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="let a model card run the code that it names")] = False,
    out: Annotated[Path | None, typer.Option(help="file to write: a page (.html), or the findings (.json)")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit a cohort: near duplicates, shortcuts, outliers, subgroups, sizes; each check with rule, source and remedy.

    Exit code 0 whatever it finds. The page shows pictures of near duplicates: keep it where the images may be.
    """
    from dosimeter.cli.data_audit import audit_data

    more = {"labels": labels, "label_tag": label_tag, **names_of(findings=findings, classes=classes)}
    cohort = {"data": data, "positive": positive, "limit": limit, "patients": patients, **more}
    split: dict[str, Any] = {"protocol": protocol, "seed": seed, "group": group, "tuned": tuned_on_test}
    audit_data(name, cohort, **split, model=model, trust=trust, out=out, as_json=as_json)


@app.command()
def fetch(
    name: Name,
    folder: Annotated[
        Path | None, typer.Argument(help="data folder to fill; default: $DOSIMETER_DATA or ./data")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="another server with the same repositories")] = None,
    jobs: Annotated[int, typer.Option(help="downloads at a time")] = 4,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Download a public cohort from its public Git repository, every file verified; again to resume."""
    import os

    from dosimeter.cli.display import Display
    from dosimeter.cohorts.fetch import PUBLIC_BASE, manifest
    from dosimeter.cohorts.fetch import fetch as fetch_cohort
    from dosimeter.errors import DosimeterError

    folder = folder or Path(os.environ.get("DOSIMETER_DATA") or "data")
    say("Research use only; the images belong to their authors. Do not redistribute them.", error=True)
    with Display() as display:
        display.begin(f"fetching {name}", len(manifest(name)))
        report = fetch_cohort(
            name, folder, base_url=base_url or PUBLIC_BASE, progress=lambda done, total: display.advance(1), jobs=jobs
        )
    tell(
        {"folder": str(folder), "downloaded": report.downloaded, "present": report.present,
         "failed": dict(report.failed)},
        f"{report.downloaded} downloaded, {report.present} already there, {len(report.failed)} failed: {folder}",
    )  # fmt: skip
    for file, reason in report.failed:
        say(f"failed: {file}: {reason}", error=True, urgent=True)
    if report.failed:
        raise DosimeterError(f"{len(report.failed)} of {name}'s files are missing. The same command tries them again.")
