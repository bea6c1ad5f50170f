"""What a cluster's workers do, and the form in which work travels to them; `cluster.py` is the driver's side.

To a worker travel classifiers, base weights, and images on the classifier's grid under pseudonyms; no file name, no
path and no patient id. So workers share no file system with the driver.
"""

import hashlib
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import pydicom
import torch

import dosimeter
from dosimeter.cohorts.base import Cohort, Decoded, Record
from dosimeter.cohorts.grids import Grid, grid_of
from dosimeter.cohorts.limits import left_out_because
from dosimeter.engines.base import Engine, EngineUnavailable
from dosimeter.engines.choose import ENGINES, build_engine, engine_versions
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.fit import fit
from dosimeter.models.weights import State
from dosimeter.sweeps.execute import Row, execute_cell
from dosimeter.sweeps.plan import Cell

log = logging.getLogger(__name__)

BLOCK = 64
"""Images that share an object in the cluster's store: a worker fetches them together."""


def import_ray() -> Any:
    """Return the package ray, or raise DosimeterError that says how to install it."""
    try:
        import ray
    except ImportError as error:
        raise DosimeterError("The ray executor needs ray: pip install 'dosimeter[ray]'.") from error
    return ray


def versions() -> dict[str, str]:
    """Return the versions of the software that rows depend on."""
    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "dosimeter": f"{dosimeter.__version__} (sources {_sources()})",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "Pillow": PIL.__version__,
        "torchmetrics": version("torchmetrics"),
        "pydicom": pydicom.__version__,
        **{package: version for engine in ENGINES for package, version in engine_versions(engine).items()},
    }


def _sources() -> str:
    """Return a digest of dosimeter's code: between releases many states share one version."""
    folder = Path(dosimeter.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def cudnn_switches() -> dict[str, bool]:
    """Return how cuDNN is set here, for `Worker` to set it likewise."""
    return {name: getattr(torch.backends.cudnn, name) for name in ("deterministic", "allow_tf32")}


class Report(NamedTuple):
    """What a worker says of itself."""

    node: str
    versions: dict[str, str]


class Served(NamedTuple):
    """The classifier that cells are for, and how it is computed.

    Attributes:
        fingerprint: of the classifier.
        classifier: one reference to it; in a list, or Ray would hand over the object at every call.
        engine: a key of `ENGINES`.
        device: "cpu" or "cuda".
    """

    fingerprint: str
    classifier: list[Any]
    engine: str
    device: str


class Worker:
    """A process on a node of the cluster, for one core or one GPU. The driver calls its methods.

    Args:
        switches: of `torch.backends.cudnn`, as on the driver.
    """

    def __init__(self, switches: dict[str, bool]) -> None:
        for name, value in switches.items():
            setattr(torch.backends.cudnn, name, value)
        self._lock = threading.Lock()  # a worker with a GPU has two threads
        self._served: tuple[str, str] | None = None
        self._classifier: Classifier
        self._engine: Engine

    def report(self) -> Report:
        """Return the node's address and the versions of its software."""
        return Report(_node(), versions())

    def sweep(self, cell: Cell, served: Served) -> tuple[list[Row], list[str]]:
        """Return the rows of `cell` and what there is to say; the classifier is built when its first cell comes."""
        torch.set_num_threads(1)
        with self._lock:
            self._serve(served)
            classifier, engine = self._classifier, self._engine
        notes: list[str] = []
        return execute_cell(cell, classifier, engine, note=notes.append), notes

    def fit(self, arguments: dict[str, Any], weights: list[Any]) -> tuple[State, dict[str, Any]]:
        """Return the head's state and the card of the classifier that `models.fit.fit` makes.

        Args:
            arguments: of `fit`, all but the weights.
            weights: one reference to them, in a list.
        """
        torch.set_num_threads(1)
        classifier = fit(weights=import_ray().get(weights[0]), **arguments)
        return {name: tensor.cpu() for name, tensor in classifier.head.state_dict().items()}, classifier.card

    def _serve(self, served: Served) -> None:
        if self._served == (served.fingerprint, served.engine):
            return
        classifier = import_ray().get(served.classifier[0]).to(served.device)
        try:
            engine = build_engine(served.engine, classifier, threads=1)
        except EngineUnavailable as error:
            raise DosimeterError(
                f"the {served.engine} engine is not available on node {_node()}: {error} Make it so there, or use "
                "--engine torch."
            ) from error
        self._classifier, self._engine = classifier, engine
        self._served = served.fingerprint, served.engine


def _node() -> str:
    return str(import_ray().util.get_node_ip_address())


# --- what travels -------------------------------------------------------------------------------------------


def portable_cell(cell: Cell, *, grid: Grid) -> Cell:
    """Return `cell` with its images in it, on `grid` unless they are attacked at their own size.

    Those that the classifier would crop once more travel as they are. Pseudonyms stand in place of patient ids.

    Its rows are those of `cell`: an image on its grid is not resized again, and one that cannot be read fails again.
    """
    records, pseudonyms = [], {}
    for index, record in enumerate(cell.shard.records):
        try:
            image = _on_grid(cell.shard, index, None if cell.setting.threat.native else grid)
        except (DosimeterError, OSError, ValueError) as error:
            log.warning("case %s left out: %s", record.case_id, left_out_because(error))
            image = None
        patient = cell.setting.patients.get(record.unit) if record.unit is not None else None
        records.append(_portable(record, _Carried(image), patient))
        if patient is not None:
            pseudonyms[patient] = patient
    setting = replace(cell.setting, patients=pseudonyms)
    return Cell(cell.cell_id, _nameless(cell.shard, records), setting, cell.classifier)


class ImageStore:
    """Puts images into the cluster's store, each once, as they are asked for.

    Args:
        size_px: side of the grid they are put on.
    """

    def __init__(self, *, size_px: int) -> None:
        self._grid = grid_of(size_px)
        self._put: dict[int, tuple[Record, _InStore]] = {}  # by identity, which lasts while the record is held

    def portable(self, cohort: Cohort) -> Cohort:
        """Return `cohort` without patients and file names, its images read from the cluster's store."""
        new = [index for index, record in enumerate(cohort.records) if id(record) not in self._put]
        for start in range(0, len(new), BLOCK):
            block = new[start : start + BLOCK]
            ref = import_ray().put([_on_grid(cohort, index, self._grid) for index in block])
            for place, index in enumerate(block):
                record = cohort.records[index]
                self._put[id(record)] = record, _InStore([ref], place)
        return _nameless(cohort, [_portable(record, self._put[id(record)][1]) for record in cohort.records])


def _portable(record: Record, read: Callable[[], Decoded], patient_id: str | None = None) -> Record:
    """Return a record without file names, whose image is read by `read`."""
    return Record(record.case_id, record.label, record.sha256, read, patient_id, findings=record.findings)


def _on_grid(cohort: Cohort, index: int, grid: Grid | None) -> Decoded:
    """Return a case's image, on a grid where it stays as it is when it is put there again."""
    case = cohort[index]
    decoded = Decoded(case.image, case.bits)
    return decoded if grid is None or grid != grid.settled else Decoded(grid.put(decoded), case.bits)


def _nameless(cohort: Cohort, records: list[Record]) -> Cohort:
    """Return `cohort` with other records, and nothing else that could name a file."""
    return Cohort(
        cohort.name,
        cohort.classes,
        tuple(records),
        cohort.modality,
        positive=cohort.positive,
        findings=cohort.findings,
    )


@dataclass(frozen=True)
class _Carried:
    """Reads an image that came with its record; None is one that the driver could not read."""

    image: Decoded | None = field(repr=False)

    def __call__(self) -> Decoded:
        if self.image is None:
            raise DosimeterError("the driver could not read this image; its log says why.")
        return self.image


@dataclass(frozen=True)
class _InStore:
    """Reads an image of a block in the cluster's store.

    Attributes:
        block: one reference, in a list.
        place: of the image in the block.
    """

    block: list[Any]
    place: int

    def __call__(self) -> Decoded:
        image: Decoded = import_ray().get(self.block[0])[self.place]
        return image
