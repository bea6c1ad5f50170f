"""Are masked classifiers told from honest ones? Writes docs/evaluation.md: `python benchmarks/confusion.py`.

Small classifiers that hide their gradients, each in a known way, and honest ones (`tests/masked.py`) are examined,
attacked and judged as a study would.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from markdown import table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from masked import HONEST, MASKED, examined  # noqa: E402

from dosimeter.analysis.checks import VERDICTS  # noqa: E402
from dosimeter.analysis.evaluation import RULES, evaluate, overall  # noqa: E402
from dosimeter.responses import read_compact  # noqa: E402

HEAD = """# Can an evaluation be trusted?

A classifier under an attack that fails looks robust. So dosimeter judges the evaluation, apart from the classifier:
PASS, CAUTION or UNRELIABLE, the worst of the checks below. PASS says that nothing spoke against the numbers, not that
the classifier is robust; a stronger attack may exist. An evaluation is one classifier under one family of attacks:
`paper`, FGSM as published, by itself; `sound`, every other attack together. A check that had nothing to measure is
left out.

The report shows the checks with their numbers under "Can these numbers be trusted?"; they are also in
`tables/evaluation.csv` and `summary.json`.

## The checks
"""

MIDDLE = """## Are the masked told from the honest?

Small networks that look for an opacity in noise, each hiding its gradient in a known way, and honest ones, all attacked
with {attacks}, and judged. `paper` is one step of FGSM, so CAUTION is
the best that it can get; of real networks it is UNRELIABLE where the published loss leaves gradients of exactly 0. Made
by `python benchmarks/confusion.py`, with real networks by `--run FOLDER` of a study.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "evaluation.md")
    parser.add_argument(
        "--run", type=Path, nargs="*", default=[], help="folders of studies: real networks, honest ones"
    )
    options = parser.parse_args()
    zoo = list(judged())
    real = [each for folder in options.run for each in of_study(folder)]
    found = [judgement.row for judgement in (*zoo, *real)]
    checks = pd.concat([judgement.checks for judgement in zoo], ignore_index=True)
    rules = [[rule.title, rule.rule, example(checks, rule.id), rule.source, rule.remedy] for rule in RULES]
    parts = [
        HEAD + "\n" + table(["check", "rule", "for instance", "source", "what to do"], rules, text_columns=5),
        MIDDLE.format(attacks="PGD, APGD, Square, random signs and uniform noise"),
        table(
            ["classifier", "kind", "verdict on `sound`", "checks that it does not pass", "verdict on `paper`"],
            found,
            text_columns=5,
        ),
        counts(found),
    ]
    options.out.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


class Judgement(NamedTuple):
    """A classifier's row of the table, and all that was said of it."""

    row: list[str]
    checks: pd.DataFrame


def judged() -> Iterator[Judgement]:
    """Yield what is found of each classifier of the zoo."""
    for kind, zoo in (("masked", MASKED), ("honest", HONEST)):
        for name, build in zoo.items():
            evidence = examined(build())
            checks = evaluate(evidence.frame, evidence.preflights, convergence=evidence.convergence)
            yield _judgement(name, kind, checks)


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


def _judgement(name: str, kind: str, checks: pd.DataFrame) -> Judgement:
    verdicts = overall(checks).set_index("preset")["verdict"]
    noted = checks[(checks["preset"] == "sound") & (checks["verdict"] != VERDICTS[0])]
    row = [name, kind, verdicts.get("sound", "-"), "; ".join(noted["title"]), verdicts.get("paper", "-")]
    print(row, file=sys.stderr, flush=True)
    return Judgement(row, checks)


def counts(rows: list[list[str]]) -> str:
    """Return the confusion table of kinds and verdicts."""
    body = [
        [kind, *(str(sum(row[1] == kind and row[2] == verdict for row in rows)) for verdict in VERDICTS)]
        for kind in ("masked", "honest")
    ]
    return table(["verdict on `sound`", *VERDICTS], body)


if __name__ == "__main__":
    main()
