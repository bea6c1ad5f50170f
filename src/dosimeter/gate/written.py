"""What became of a gate's rules, for people and for pipelines: lines, JSON, Markdown, JUnit XML, GitHub annotations."""

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from dosimeter.gate.judge import MET, REFUSED, Judgement, Outcome
from dosimeter.plain import one_line

SIGNS = {"met": "MET", "not met": "NOT MET", "refused": "REFUSED"}


def verdict(found: Judgement) -> str:
    """Return the verdict on the gate in one line."""
    kept, n = sum(each.status == MET for each in found.outcomes), len(found.outcomes)
    lacking = f"; the run is incomplete: {' '.join(found.incomplete)}" if found.incomplete else ""
    phantom = "; PHANTOM DATA: this says nothing about patients" if found.phantom else ""
    shared = f"; {found.shared}" if found.shared else ""
    return f"gate {'met' if found.met else 'NOT MET'}: {kept} of {n} rules and classifiers{lacking}{shared}{phantom}"


def lines(found: Judgement) -> Iterator[str]:
    """Yield a line for each rule and classifier, and the verdict."""
    for each in found.outcomes:
        yield f"{SIGNS[each.status]}: {each.rule}: {each.who}: {each.because}"
    yield verdict(found)


def as_json(found: Judgement) -> dict[str, Any]:
    """Return all of it as JSON types."""
    return {
        "met": found.met,
        "run_id": found.run_id,
        "dosimeter_version": found.version,
        "phantom": found.phantom,
        "incomplete": found.incomplete,
        "shared": None if found.shared is None else found.shared._asdict(),
        "outcomes": [each._asdict() for each in found.outcomes],
    }


def markdown(found: Judgement) -> str:
    """Return a summary in GitHub's Markdown."""
    rows = [
        f"| {SIGNS[each.status]} | `{_cell(each.rule)}` | {_cell(each.who)} | {_cell(each.because)} |"
        for each in found.outcomes
    ]
    head = ["| | rule | classifier | why |", "|---|---|---|---|"]
    made = f"Run {found.run_id}, dosimeter {found.version}. A rule is tested against the bound of the 95 % interval."
    return "\n".join([f"### Dosimeter: {_cell(verdict(found))}", "", *head, *rows, "", made, ""])


def junit(found: Judgement) -> str:
    """Return a test suite in JUnit's XML: a case for each rule and classifier."""
    failed = [each for each in found.outcomes if each.status != MET]
    counts = {"tests": len(found.outcomes) + bool(found.incomplete), "failures": len(failed) + bool(found.incomplete)}
    facts = {"name": "dosimeter gate", **{name: str(count) for name, count in counts.items()}, "errors": "0"}
    suites = ElementTree.Element("testsuites", facts)
    suite = ElementTree.SubElement(suites, "testsuite", facts)
    for each in found.outcomes:
        case = ElementTree.SubElement(suite, "testcase", name=_xml(each.rule), classname=_xml(each.who))
        if each.status != MET:
            said = ElementTree.SubElement(case, "failure", type=each.status, message=_xml(each.because))
            said.text = _xml(f"{each.rule}: {each.because}")
    if found.incomplete:
        case = ElementTree.SubElement(suite, "testcase", name="the run is complete", classname="run")
        ElementTree.SubElement(case, "failure", type="incomplete", message=_xml(" ".join(found.incomplete)))
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def annotations(found: Judgement) -> Iterator[str]:
    """Yield what GitHub's runner shows beside a commit: an error for each rule that is not met, and the verdict."""
    for each in found.outcomes:
        if each.status != MET:
            yield f"::error title={_property(_title(each))}::{_data(f'{each.rule}: {each.who}: {each.because}')}"
    yield f"::{'notice' if found.met else 'error'} title=dosimeter gate::{_data(verdict(found))}"


def _title(outcome: Outcome) -> str:
    return f"dosimeter gate, {'refused' if outcome.status == REFUSED else 'not met'}"


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")


def _xml(text: str) -> str:
    """Return `text` without what XML cannot hold."""
    return "".join(char for char in one_line(text) if char not in "\ufffe\uffff")


def _data(text: str) -> str:
    return one_line(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
