"""A finished audit in MLflow: its settings and numbers, once, without folders; and what goes wrong in a sentence."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import dosimeter as dm
from dosimeter.cli import study
from dosimeter.cli.app import app
from dosimeter.errors import DosimeterError
from dosimeter.record.run import Run
from dosimeter.report import tracking
from dosimeter.study.run import Outcome

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
mlflow = pytest.importorskip("mlflow")
pytest.importorskip("alembic")
pytest.importorskip("sqlalchemy")
WHO = "brightness on SMITH films whole"  # what is no letter of MLflow's names is left out


@pytest.fixture(scope="module")
def result() -> Any:
    """An audit of a linear classifier: images 0.1 beside its boundary, so that 4/255 breaks none and 64/255 all."""
    layer = nn.Linear(64, 2)
    layer.weight.data = torch.stack([-torch.ones(64), torch.ones(64)]) * 20 / 64
    layer.bias.data = torch.tensor([10.0, -10.0])
    mine = dm.classifier(
        nn.Sequential(nn.Flatten(), layer), size_px=8, classes=("a", "b"), channels=1, name="brightness"
    )
    images = torch.tensor([0.4, 0.6] * 6)[:, None, None, None].expand(-1, 1, 8, 8).numpy()
    cohort = dm.cohort_of(images, [0, 1] * 6, ("a", "b"), name="SMITH: films")
    return dm.audit(mine, cohort, attacks="pgd", epsilons=["4/255", "64/255"], data_audit=False, allow_flat=True)


@pytest.fixture(scope="module")
def tracked(result: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a name that URIs escape, and MLflow's id of the run in it."""
    where = tmp_path_factory.mktemp("tracked") / "its own 100% #1"
    return where, result.log_to_mlflow(where)


def logged(where: Path) -> list[Any]:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{where / 'mlflow.db'}")
    return list(client.search_runs([client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id]))


def test_a_folder_gets_settings_numbers_and_files_once(result: Any, tracked: tuple[Path, str]) -> None:
    where, run_id = tracked
    assert result.log_to_mlflow(where) == run_id  # there already
    (run,) = logged(where)
    assert run.info.status == "FINISHED"
    summary = json.loads((result.folder / "summary.json").read_text())
    (found,) = summary["results"]
    assert run.data.metrics[f"{WHO}/accuracy"] == found["accuracy"]["value"] == 1
    assert run.data.metrics[f"{WHO}/worst_case_accuracy"] == found["worst_case"]["value"]
    assert 4 / 255 < run.data.metrics[f"{WHO}/epsilon50"] < 64 / 255
    assert run.data.metrics[f"{WHO}/n"] == 12
    assert run.data.params["attack"] == '["pgd"]'
    assert run.data.tags[f"verdict {WHO}"] == found["evaluations"][0]["verdict"]
    assert run.data.tags["mlflow.note.content"] == str(result)
    artifacts = Path(where / "artifacts" / run_id / "artifacts")
    for name in ("report.html", "summary.json", "responses.parquet"):
        assert (artifacts / name).read_bytes() == (result.folder / name).read_bytes()


def test_what_is_logged_names_no_folder_and_no_user(result: Any, tracked: tuple[Path, str]) -> None:
    (run,) = logged(tracked[0])
    said = json.dumps([run.data.params, run.data.tags])
    assert str(result.folder.parent) not in said
    assert not {"mlflow.user", "mlflow.source.name"} & run.data.tags.keys()


def test_telemetry_is_off(tracked: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracking.ENVIRONMENT:
        monkeypatch.setenv(name, "false")
    tracking.open_tracker(str(tracked[0]))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert mlflow.telemetry.get_telemetry_client() is None


@pytest.mark.parametrize("where", ["http://127.0.0.1:9", "file/below", "ftp://nowhere/x"])
def test_what_cannot_be_reached_is_one_sentence(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DosimeterError, match=r"--mlflow must name a (server|folder)") as caught:
        tracking.open_tracker(where)
    assert "\n" not in str(caught.value)


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(DosimeterError, match=r"--mlflow needs mlflow: pip install 'dosimeter\[mlflow\]'"):
        tracking.open_tracker("somewhere")


def test_the_command_opens_it_before_and_logs_after(
    result: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(study, "open_tracker", lambda where: order.append(f"open {where}") or "tracker")
    monkeypatch.setattr(study, "track", lambda tracker, folder: order.append(f"track {tracker}") or "run-7")

    def ran(*_: Any, **__: Any) -> Any:
        order.append("run")
        return Outcome(Run(result.folder), [], reused=False)

    monkeypatch.setattr(study, "run_study", ran)
    (tmp_path / "a.toml").write_text('name = "a"\nsource = "torchvision"\nclasses = ["x", "y"]\n')
    said = CliRunner().invoke(
        app, ["audit", "--model", str(tmp_path / "a.toml"), "--data", "phantom-ct", "--mlflow", "here"]
    )
    assert said.exit_code == 0, said.output
    assert order == ["open here", "run", "track tracker"]
    assert "MLflow run: run-7" in said.stdout
