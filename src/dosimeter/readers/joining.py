"""What readers saw, put beside what the classifier answered: into the metadata of a run's response table."""

from pathlib import Path

from dosimeter.errors import DosimeterError
from dosimeter.readers.design import Design
from dosimeter.readers.results import reader_name, results, threshold_words
from dosimeter.readers.store import Store
from dosimeter.record import table as responses
from dosimeter.record.run import held


def join(design: Design, store: Store, run: Path) -> str:
    """Put the results of a study into its run's responses.parquet, in place of older ones of the same study.

    The file is replaced whole or stays as it was.

    Returns:
        A sentence of what is there now.

    Raises:
        DosimeterError: the study was made from another run, has no answers, or the run is in use.
    """
    path = run / "responses.parquet"
    found = results(design, store)
    with held(run):
        meta = responses.read_meta(path)
        if meta.get("run_id") != design.run_id:
            raise DosimeterError(
                f"study {design.study_id} shows images of run {design.run_id}, {run} holds run "
                f"{meta.get('run_id')}. Name the run that the study was made from."
            )
        others = [entry for entry in meta.get("readers", []) if entry["study"] != design.study_id]
        responses.annotate(path, {"readers": [*others, found]})
    simulated = "SIMULATED readers, " if found["simulated"] else ""
    pooled = [f"{curve['kind']} {threshold_words(curve)}" for curve in found["curves"] if curve["reader"] is None]
    return f"{run}: {simulated}{reader_name(None)} of study {design.study_id}: {'; '.join(pooled)}"
