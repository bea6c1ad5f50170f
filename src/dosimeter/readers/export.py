"""The answers of a study as one table: CSV or Parquet, without pseudonyms."""

from pathlib import Path

import pandas as pd

from dosimeter.errors import DosimeterError
from dosimeter.files import replacing
from dosimeter.readers.design import Design, Trial
from dosimeter.readers.store import Store

WRITERS = {".csv": "to_csv", ".parquet": "to_parquet"}


def answers_table(design: Design, store: Store) -> pd.DataFrame:
    """Return one row for each answer, in the order given.

    Returns:
        study; simulated; reader, a number; place in the reader's order; practice; kind, epsilon and case_id of the
        pair; altered and chosen side; correct, null in a catch trial; response_s; window_centre and window_width as
        shares of the image range, null where the window was locked; answered, ISO-8601.
    """
    simulated, rows = store.simulated, []
    for answer in store.answers():
        pair = design.pair(Trial(answer["pair"], bool(answer["practice"]), answer["altered"]))
        right = answer["chosen"] == answer["altered"]
        rows.append(
            {
                "study": design.study_id,
                "simulated": simulated,
                "reader": answer["reader"],
                "place": answer["place"],
                "practice": bool(answer["practice"]),
                "kind": pair.kind,
                "epsilon": pair.epsilon,
                "case_id": pair.case_id,
                "altered": answer["altered"],
                "chosen": answer["chosen"],
                "correct": None if pair.kind == "catch" else right,
                **{name: answer[name] for name in ("response_s", "window_centre", "window_width", "answered")},
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    floats = ("response_s", "window_centre", "window_width")
    return table.astype({"correct": "boolean", **dict.fromkeys(floats, "float64")})


COLUMNS = [
    *("study", "simulated", "reader", "place", "practice", "kind", "epsilon", "case_id", "altered", "chosen"),
    *("correct", "response_s", "window_centre", "window_width", "answered"),
]


def export_answers(design: Design, store: Store, path: Path) -> int:
    """Write `answers_table` to `path`, .csv or .parquet, and return the number of rows.

    Raises:
        DosimeterError: another kind of file.
    """
    if path.suffix not in WRITERS:
        raise DosimeterError(f"the file must end in .csv or .parquet, got {path.name}. Try answers.csv.")
    table = answers_table(design, store)
    with replacing(path) as temporary:
        getattr(table, WRITERS[path.suffix])(temporary, index=False)
    return len(table)
