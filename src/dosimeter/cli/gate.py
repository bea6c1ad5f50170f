"""`dosimeter gate`: rules that a run must keep, for a pipeline to stop at."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli.lines import AsJson, Quiet, say, say_json
from dosimeter.errors import DosimeterError

NOT_MET = 3
"""The exit code of a gate that is not met; 2 is a mistake of the user, 1 a crash."""


def gate(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run")],
    rules_file: Annotated[
        Path | None, typer.Argument(metavar="RULES.toml", help="a file with rules, baseline and max_drop")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help='a rule, as "robust_accuracy(pgd, 1/255) >= 0.6"; several times for more')
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="the folder of an older run on the same images")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="how much less accurate than the baseline the run may be, as 0.02")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="write the outcome as JUnit XML")] = None,
    markdown: Annotated[Path | None, typer.Option(help="write the outcome as a Markdown summary")] = None,
    github: Annotated[
        bool, typer.Option("--github", help="print GitHub annotations, and add to the summary of its job")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Test a run's numbers against rules. Exit code 0: all are met; 3: one is not; 2: one cannot be tested.

    A rule with >= or > is tested against the lower bound of the 95 % interval, one with <= or < against the upper.
    Numbers under attack of an UNRELIABLE evaluation are refused, and so not met.
    """
    from dosimeter.files import write_text
    from dosimeter.gate import written
    from dosimeter.gate.judge import judge
    from dosimeter.gate.rules import parse_rule, read_rules
    from dosimeter.record.finished import read_finished

    texts = list(rule or ())
    if rules_file is not None:
        kept = read_rules(rules_file)
        texts = [*kept.rules, *texts]
        baseline, max_drop = baseline or kept.baseline, kept.max_drop if max_drop is None else max_drop
    rules = [parse_rule(text) for text in texts]
    old = None if baseline is None else read_finished(baseline)
    labels = (str(run), str(baseline))
    found = judge(rules, read_finished(run), baseline=old, max_drop=max_drop, labels=labels)
    if as_json:
        say_json(written.as_json(found))
    else:
        say(*(written.annotations(found) if github else written.lines(found)))
    summary = os.environ.get("GITHUB_STEP_SUMMARY") if github else None
    try:
        if junit is not None:
            write_text(junit, written.junit(found))
        if markdown is not None:
            write_text(markdown, written.markdown(found))
        if summary:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(written.markdown(found))
    except OSError as error:
        raise DosimeterError(f"the outcome must go to files that can be written, got {error}.") from error
    if not found.met:
        raise typer.Exit(NOT_MET)
