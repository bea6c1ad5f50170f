"""Are masked classifiers told from honest ones? Writes docs/evaluation.md: `python benchmarks/confusion.py`.

Small classifiers that hide their gradients, each in a known way, and honest ones (`tests/masked.py`) are examined,
attacked and judged as a study would.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from markdown import table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from masked import HONEST, MASKED, examined  # noqa: E402

from dosimeter.analysis.evaluation import RULES, evaluate, overall  # noqa: E402

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
with {attacks}, and judged. Made by `python benchmarks/confusion.py`; the tests make the same table.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "evaluation.md")
    options = parser.parse_args()
    rules = [[rule.title, rule.rule, rule.source, rule.remedy] for rule in RULES]
    found = judged()
    parts = [
        HEAD + "\n" + table(["check", "rule", "source", "what to do"], rules, text_columns=4),
        MIDDLE.format(attacks="PGD, APGD, Square, random sign and uniform noise"),
        table(["classifier", "kind", "verdict on `sound`", "because", "verdict on `paper`"], found, text_columns=5),
        counts(found),
    ]
    options.out.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


def judged() -> list[list[str]]:
    """Return a row for each classifier of the zoo: its name, kind, verdicts and reasons."""
    rows = []
    for kind, zoo in (("masked", MASKED), ("honest", HONEST)):
        for name, build in zoo.items():
            evidence = examined(build())
            checks = evaluate(evidence.frame, evidence.preflights, convergence=evidence.convergence)
            verdicts = overall(checks).set_index("preset")
            rows.append([name, kind, *_of(verdicts, "sound"), _of(verdicts, "paper")[0]])
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _of(verdicts: pd.DataFrame, family: str) -> tuple[str, str]:
    if family not in verdicts.index:
        return "-", ""
    row = verdicts.loc[family]
    return str(row["verdict"]), str(row["because"])


def counts(rows: list[list[str]]) -> str:
    """Return the confusion table of kinds and verdicts."""
    verdicts = ("PASS", "CAUTION", "UNRELIABLE")
    body = [
        [kind, *(str(sum(row[1] == kind and row[2] == verdict for row in rows)) for verdict in verdicts)]
        for kind in ("masked", "honest")
    ]
    return table(["", *verdicts], body)


if __name__ == "__main__":
    main()
