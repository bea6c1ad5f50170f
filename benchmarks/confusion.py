"""Are masked classifiers told from honest ones? Writes docs/evaluation.md: `python benchmarks/confusion.py`.

Small classifiers that hide their gradients, each in a known way, and honest ones (`tests/support/masked.py`) are
examined, attacked and judged as a study would. Beside each verdict stands what the attacks leave, and what an attacker
leaves who knows what is behind the mask: only where the second is less was accuracy under attack overstated.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from as_markdown import table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

from masked import HONEST, MASKED, Evidence, cohort_of, examined, stated, truth  # noqa: E402

from dosimeter.analysis.checks import VERDICTS  # noqa: E402
from dosimeter.analysis.evaluation import evaluate, overall, rules  # noqa: E402
from dosimeter.record.table import read_compact  # noqa: E402

KINDS = ("masked", "honest")
N = 24
EPSILONS = (0.01, 0.03, 0.1)
ATTACKS = ("pgd", "square", "random_sign")
PUBLISHED = ("saturated softmax", "convolutional")  # these are attacked as published, too
POINTS = 0.05  # and more than one image: an accuracy that is so much too high is overstated

HEAD = """# Can an evaluation be trusted?

A classifier under an attack that fails looks robust. So dosimeter judges the evaluation, apart from the classifier:
PASS, CAUTION or UNRELIABLE, the worst of the checks below. PASS says that nothing spoke against the numbers, not that
the classifier is robust; a stronger attack may exist. An evaluation is one classifier under one family of attacks:
`paper`, FGSM as published, by itself; `sound`, every other attack together. A check that had nothing to measure is
left out.

`print(dm.examine(classifier, cohort))` asks those of one classifier, of any make, that need no attack first.

The report shows the checks with their numbers under "Can these numbers be trusted?"; they are also in
`tables/evaluation.csv` and `summary.json`. A number of an evaluation that did not pass carries the verdict wherever it
stands: in the opening verdict, tables (column `evaluation`), figures and `summary.json`. Transferred images,
comparisons and means over seeds carry the worst of the evaluations they belong to.

## The checks
"""

MIDDLE = """## Are the masked told from the honest?

Small networks that look for an opacity in noise, {n} images of 32 px: {masked} that hide their gradients or are
broken, each in a known way, and {honest} honest ones, all attacked at `--effort quick` with FGSM, PGD, Square and
random signs, and judged. "Stated" is what is left by all of these attacks together, each image by the one that breaks
it first; "known" is what is left by an attacker who knows what is behind the mask (PGD of 40 steps, two starts, on
the network behind it, and Square with 300 queries on the network itself), so an upper bound. Both are accuracies at
epsilon {epsilons}; of a random classifier the second is what is to be expected. Accuracy under attack was overstated
where "stated" is more, somewhere, by over 5 points and 1 image. What is masked without that may pass: a margin loss
sees through large logits.

Of `paper`, one step of FGSM, CAUTION is the best that there is; it is UNRELIABLE where the published loss leaves
gradients of exactly 0, as on saturated logits. Made by `python benchmarks/confusion.py` in {minutes:.0f} minutes of one
core; with real networks by `--run FOLDER` of a study.
"""


class Judgement(NamedTuple):
    """A classifier's row of the table, and all that was said of it.

    Attributes:
        name, kind: whose, masked or honest.
        verdicts: by family of attacks.
        failed: titles of the checks of `sound` that it does not pass.
        accuracies: stated and known, per cent at each of `EPSILONS`.
        overstated: whether the first is more than the second; None if that is not known.
        checks: as `evaluate` returns them.
        seconds: of one core that measuring took.
    """

    name: str
    kind: str
    verdicts: dict[str, str]
    failed: str
    accuracies: tuple[str, str]
    overstated: bool | None
    checks: pd.DataFrame
    seconds: float

    @property
    def row(self) -> list[str]:
        """Return its cells."""
        over = "" if self.overstated is None else "yes" if self.overstated else "no"
        return [self.name, self.kind, *self.accuracies, over, self.verdicts.get("sound", "-"), self.failed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "evaluation.md")
    parser.add_argument(
        "--run", type=Path, nargs="*", default=[], help="folders of studies: real networks, honest ones"
    )
    parser.add_argument("--kept", type=Path, help="a folder for what was measured: what is there is not measured again")
    parser.add_argument("--only", choices=KINDS, help="measure and keep these, and write nothing")
    options = parser.parse_args()
    zoo = list(judged(options.kept, (options.only,) if options.only else KINDS))
    if options.only:
        return
    minutes = sum(judgement.seconds for judgement in zoo) / 60
    found = [*zoo, *(each for folder in options.run for each in of_study(folder))]
    checks = pd.concat([judgement.checks for judgement in zoo], ignore_index=True)
    rows = [[rule.title, rule.rule, example(checks, rule.id), rule.source, rule.remedy] for rule in rules()]
    parts = [
        HEAD + "\n" + table(["check", "rule", "for instance", "source", "what to do"], rows, text_columns=5),
        MIDDLE.format(
            n=N, masked=len(MASKED), honest=len(HONEST), minutes=minutes, epsilons=", ".join(map(str, EPSILONS))
        ),
        counts(found),
        table(
            [
                *("classifier", "kind", "stated, %", "known, %", "overstated", "verdict on `sound`"),
                "checks that it does not pass",
            ],
            [judgement.row for judgement in found],
            text_columns=7,
        ),
    ]
    options.out.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


class Measured(NamedTuple):
    """What was measured of a classifier of the zoo.

    Attributes:
        evidence: what `evaluate` takes.
        stated, known: accuracies at `EPSILONS`.
        n: images.
        seconds: of one core that it took.
    """

    evidence: Evidence
    stated: list[float]
    known: list[float]
    n: int
    seconds: float


def judged(kept: Path | None, kinds: Sequence[str]) -> Iterator[Judgement]:
    """Yield what is found of each classifier of the zoo."""
    for kind in kinds:
        for name in MASKED if kind == "masked" else HONEST:
            measured = _kept(name, kept)
            checks = evaluate(*measured.evidence[:2], convergence=measured.evidence.convergence)
            checks["model"] = name
            yield _judgement(name, kind, checks, measured)


def of_study(folder: Path) -> Iterator[Judgement]:
    """Yield what is found of each classifier of a finished study."""
    frame, meta = read_compact(folder / "responses.parquet")
    checks = evaluate(frame, meta.get("preflights", ()), convergence=meta.get("convergence", ()))
    for names, group in checks.groupby(["model", "cohort", "protocol"], sort=False):
        yield _judgement(", ".join(map(str, names)), "honest", group)


def example(checks: pd.DataFrame, name: str) -> str:
    """Return the worst thing that a check found in the zoo, and where."""
    mine = checks[checks["id"] == name]
    if mine.empty:
        return ""
    worst = mine.iloc[mine["verdict"].map(VERDICTS.index).argmax()]
    return f"{worst['verdict']}, {worst['model']}: {worst['measured']}"


def _kept(name: str, folder: Path | None) -> Measured:
    """Return what `folder` holds of a classifier, or measure it, and keep it there if there is one."""
    table, facts = ((folder or HERE) / f"{name}.{suffix}" for suffix in ("parquet", "json"))
    if folder and facts.exists():
        preflights, convergence, *rest = json.loads(facts.read_text(encoding="utf-8"))
        return Measured(Evidence(pd.read_parquet(table), preflights, convergence), *rest)
    measured = _measured(name)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        measured.evidence.frame.to_parquet(table)
        facts.write_text(json.dumps([*measured.evidence[1:], *measured[1:]]), encoding="utf-8")
    return measured


def _measured(name: str) -> Measured:
    begun, cohort = time.process_time(), cohort_of(name, N)
    classifier = (MASKED.get(name) or HONEST[name]).build()
    behind, declared = (MASKED[name].open(), MASKED[name].declared) if name in MASKED else (classifier, None)
    presets = ("paper", "sound") if name in PUBLISHED else ("sound",)
    evidence = examined(classifier, cohort, epsilons=EPSILONS, attacks=ATTACKS, presets=presets, declared=declared)
    left, known = stated(evidence.frame, EPSILONS), truth(classifier, behind, cohort, EPSILONS)
    return Measured(evidence, left, known, len(cohort), time.process_time() - begun)


def _judgement(name: str, kind: str, checks: pd.DataFrame, measured: Measured | None = None) -> Judgement:
    said = overall(checks).groupby("preset")["verdict"]  # several, where a classifier's answers make another of it
    verdicts = {preset: max(each, key=VERDICTS.index) for preset, each in said}
    noted = checks[(checks["preset"] == "sound") & (checks["verdict"] != VERDICTS[0])]
    accuracies, overstated = ("", ""), None
    if measured is not None:
        pairs = zip(measured.stated, measured.known, strict=True)
        accuracies = (_percents(measured.stated), _percents(measured.known))
        overstated = max(mine - bound for mine, bound in pairs) > max(POINTS, 1 / measured.n) + 1e-9
    seconds = measured.seconds if measured else 0.0
    judgement = Judgement(
        name, kind, verdicts, "; ".join(dict.fromkeys(noted["title"])), accuracies, overstated, checks, seconds
    )
    print(judgement.row, file=sys.stderr, flush=True)
    return judgement


def _percents(shares: Sequence[float]) -> str:
    return " ".join(f"{100 * share:.0f}" for share in shares)


def counts(found: Sequence[Judgement]) -> str:
    """Return the confusion table: kinds, and whether accuracy was overstated, against verdicts."""

    def line(title: str, mine: list[Judgement]) -> list[str]:
        return [title, *(str(sum(each.verdicts.get("sound") == verdict for each in mine)) for verdict in VERDICTS)]

    masked = [each for each in found if each.kind == "masked"]
    return table(
        ["verdict on `sound`", *VERDICTS],
        [
            line("masked, accuracy overstated", [each for each in masked if each.overstated]),
            line("masked, not overstated", [each for each in masked if not each.overstated]),
            line("honest", [each for each in found if each.kind == "honest"]),
        ],
    )


if __name__ == "__main__":
    main()
