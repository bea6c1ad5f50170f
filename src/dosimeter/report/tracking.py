"""A finished run in MLflow, where it is asked for: its settings, the numbers of its answer, its report, its rows.

What is logged says what the report says, and no more: no folder, no image's name, no user. MLflow's telemetry is off.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dosimeter.analysis import names
from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import json_in
from dosimeter.plain import named, without_folders
from dosimeter.record.table import read_meta
from dosimeter.report.answer import chosen, judged_of

EXPERIMENT = "dosimeter"
RUN_TAG, CREATED_TAG = "dosimeter.run_id", "dosimeter.created"

ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""What keeps MLflow (3.2 and later) from telling its makers that it was used."""

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""How long a server is waited for, unless the user says so: by default minutes."""

LONGEST = 500
"""Characters of a parameter: what every version of MLflow takes."""

_LEFT_OUT = re.compile(r"[^\w\-./]+")
"""Characters that MLflow takes in no name of a number."""


class Tracker(NamedTuple):
    """An experiment of MLflow that can be written to.

    Attributes:
        client: MLflow's.
        experiment_id: its place there.
    """

    client: Any
    experiment_id: str


def open_tracker(where: str) -> Tracker:
    """Return the experiment "dosimeter" of an MLflow server or folder, made if there is none.

    Call it before a run begins, so that a mistake is said at once.

    Args:
        where: the URI of a server or data base; or a folder, in which mlflow.db and artifacts/ are made.

    Raises:
        DosimeterError: MLflow is missing, or cannot be reached or written to there.
    """
    MlflowClient = _mlflow_client()
    uri, artifacts = (where, None) if "://" in where or where == "databricks" else _in_folder(Path(where))
    with _refused(where):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        made = client.create_experiment(EXPERIMENT, artifact_location=artifacts) if found is None else ""
        return Tracker(client, made or found.experiment_id)


def track(tracker: Tracker, folder: Path) -> str:
    """Log a finished run as a run of MLflow; one that is there already is not logged again.

    Parameters are its settings, metrics the numbers of `summary.json`'s answer by classifier, tags its verdicts,
    artifacts report.html, summary.json and responses.parquet.

    Args:
        tracker: see `open_tracker`.
        folder: the run's.

    Returns:
        MLflow's id of the run.

    Raises:
        DosimeterError: the run is not finished, or MLflow cannot be written to.
    """
    files = [folder / name for name in ("report.html", "summary.json", "responses.parquet")]
    try:
        summary = json_in(files[1])
    except (OSError, ValueError) as error:
        raise DosimeterError(f"{folder} must hold a finished run: its summary.json cannot be read.") from error
    settings = read_meta(files[2])["config"]
    client, experiment = tracker
    with _refused("it"):
        tags = {RUN_TAG: summary["run_id"], CREATED_TAG: summary["created"]}
        same = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        if there := client.search_runs([experiment], filter_string=f"{same} and attributes.status = 'FINISHED'"):
            return str(there[0].info.run_id)
        begun = client.create_run(
            experiment, tags=tags | dict(_tags(summary)), run_name=f"dosimeter {summary['run_id']}"
        )
        run_id = str(begun.info.run_id)
        for name, value in settings.items():
            client.log_param(run_id, name, _said(value))
        for name, number in numbers_of(summary):
            client.log_metric(run_id, name, number)
        for file in files:
            client.log_artifact(run_id, str(file))
        client.set_terminated(run_id)
    return run_id


def numbers_of(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a summary's answer: "CLASSIFIER on COHORT (PROTOCOL)/accuracy" and the like.

    What was not measured, and the end of an interval that is not known, is left out.
    """
    with names.of(summary):
        for result in summary["results"]:
            attack = chosen(result["attacks"]) or {}
            told = {
                "accuracy": result.get("accuracy"),
                "auc": result.get("auc"),
                "worst_case_accuracy": result.get("worst_case"),
                "epsilon50": attack.get("epsilon50"),
                "epsilon50_grey_levels": attack.get("grey_levels"),
            }
            numbers = {
                f"{name}{end}": (facts or {}).get(key)
                for name, facts in told.items()
                for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))
            }
            numbers |= {"n": result.get("n"), "worst_case_epsilon": (result.get("worst_case") or {}).get("epsilon")}
            for name, number in numbers.items():
                if number is not None:
                    yield f"{_who(result)}/{name}", float(number)


def _who(result: Mapping[str, Any]) -> str:
    return _LEFT_OUT.sub(" ", f"{names.model_name(result['model'])} on {result['cohort']} {result['protocol']}").strip()


def _tags(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the answer, and the verdict on each classifier's evaluation."""
    yield "mlflow.note.content", "\n\n".join(summary["answer"])
    yield "dosimeter.version", summary["dosimeter_version"]
    yield "dosimeter.status", summary["status"]
    with names.of(summary):
        for result in summary["results"]:
            if judged := judged_of(result):
                yield f"verdict {_who(result)}", judged["verdict"]


def _said(value: Any) -> str:
    text = without_folders(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _mlflow_client() -> Any:
    os.environ.update(ENVIRONMENT)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        import alembic  # noqa: F401
        import sqlalchemy  # noqa: F401
        from mlflow import MlflowClient
        from mlflow.telemetry import set_telemetry_client
    except ImportError as error:
        raise DosimeterError(f"--mlflow needs {error.name}: pip install 'dosimeter[mlflow]'.") from error
    set_telemetry_client()  # off too where MLflow was imported before
    return MlflowClient


def _in_folder(folder: Path) -> tuple[str, str]:
    """Return the URIs of a folder's data base and of its artifacts."""
    from sqlalchemy import URL

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DosimeterError(f"--mlflow must name a folder that can be written to, got {named(folder)}.") from error
    whole = folder.resolve()
    return str(URL.create("sqlite", database=str(whole / "mlflow.db"))), (whole / "artifacts").as_uri()


@contextmanager
def _refused(where: str) -> Iterator[None]:
    """Say in a sentence what MLflow raises, and keep what it says of its data base's tables to itself."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except DosimeterError:
        raise
    except Exception as error:  # of a server, a data base or a disk
        raise DosimeterError(
            f"--mlflow must name a server, a data base or a folder that MLflow can write to; {named(where)} fails "
            f"({in_a_line(error)[:200]})."
        ) from error
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
