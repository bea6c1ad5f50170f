"""Cohorts of what others yield: PyTorch datasets and loaders, MAITE datasets, arrays of findings."""

import pickle
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import dosimeter as dm
from dosimeter.cohorts.arrays import cohort_of
from dosimeter.errors import DosimeterError

IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])
CLASSES = ("clear", "opacity")


class Yielding(Dataset[Any]):
    """A dataset of (image, target[, metadata]), which counts how often it is asked."""

    def __init__(self, targets: Any = LABELS, *, noise: float = 0.0, extra: tuple[Any, ...] = ()) -> None:
        self.targets, self.noise, self.extra = targets, noise, extra
        self.asked = 0

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        self.asked += 1
        image = (IMAGES[index] + self.noise * torch.rand(1)).clamp(0, 1)
        return (image, self.targets[index], *self.extra)


class Maite(Yielding):
    """A dataset as MAITE describes it, with its one-hot targets."""

    def __init__(self) -> None:
        self.metadata = {"id": "films", "index2label": {0: "clear", 1: "opacity"}}
        super().__init__(torch.nn.functional.one_hot(LABELS, 2).float(), extra=({"id": "film"},))


def test_a_dataset_is_read_when_an_image_is_asked_for() -> None:
    source = Yielding()
    cohort = cohort_of(source, classes=CLASSES)
    assert cohort.labels.tolist() == LABELS.tolist()
    asked = source.asked
    np.testing.assert_array_equal(cohort[3].image, IMAGES[3].numpy())
    assert source.asked == asked + 1
    pickle.loads(pickle.dumps(cohort.records[0].read))()
    assert cohort.sha256 == cohort_of(IMAGES, LABELS, CLASSES).sha256


@pytest.mark.parametrize("batch", [1, 4])
def test_a_loader_is_read_once_in_its_order(batch: int) -> None:
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=batch)
    cohort = cohort_of(loader, classes=CLASSES)
    assert cohort.sha256 == cohort_of(IMAGES, LABELS, CLASSES).sha256


def test_a_maite_dataset_names_its_classes() -> None:
    cohort = cohort_of(Maite())
    assert cohort.classes == CLASSES
    assert cohort.labels.tolist() == LABELS.tolist()


def test_maite_agrees_that_it_is_one() -> None:
    protocols = pytest.importorskip("maite.protocols.image_classification")
    assert isinstance(Maite(), protocols.Dataset)


def test_findings_are_vectors_with_unknown_labels() -> None:
    targets = np.array([[1, 0], [0, np.nan], [0, 0], [1, 1], [0, 1], [np.nan, 0]])
    for cohort in (
        cohort_of(IMAGES, targets, findings=("nodule", "mass")),
        cohort_of(Yielding(targets), findings=("nodule", "mass")),
    ):
        assert cohort.findings == ("nodule", "mass")
        assert cohort.records[1].findings == (0, None)
        assert cohort.labels.tolist() == [1, 0, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (IMAGES, {"classes": CLASSES}, "labels must be given with images"),
        (Yielding(), {}, "classes must be named"),
        (Yielding(LABELS + 1), {"classes": CLASSES}, "must be indices into the 2 classes, got 2"),
        (TensorDataset(IMAGES[:0], LABELS[:0]), {"classes": CLASSES}, "must have an image, it has none"),
        (Yielding(["clear"] * 6), {"classes": CLASSES}, "indices into the classes, counted from 0, got 'clear'"),
        (Yielding(["clear"] * 6), {"findings": ("a", "b")}, "1, 0 or NaN for each of the findings, got 'clear'"),
        (Yielding(torch.ones(6, 2)), {"classes": CLASSES}, "one-hot for 2 classes, got .*name them: findings="),
        (Yielding(torch.full((6, 2), 0.5)), {"findings": ("a", "b")}, "must be 1, 0 or NaN"),
        (Yielding(torch.ones(6, 3)), {"findings": ("a", "b")}, "each of the 2 findings"),
        (Yielding(extra=(1, 2)), {"classes": CLASSES}, "must yield"),
        (Yielding(LABELS[:3]), {"classes": CLASSES}, "item 3 of the dataset cannot be had: IndexError"),
        (Yielding(), {"classes": CLASSES, "patients": ["a"]}, "patients must be as many"),
        (DataLoader(TensorDataset(3 * IMAGES, LABELS)), {"classes": CLASSES}, "from 0, black, to 1, white"),
    ],
)
def test_what_does_not_fit_is_one_sentence(source: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DosimeterError, match=words):
        cohort_of(source, **options)


def test_no_image_is_one_sentence() -> None:
    with pytest.raises(DosimeterError, match="images must have one or more, got none"):
        cohort_of(IMAGES[:0], LABELS[:0], CLASSES)


def test_a_dataset_that_gives_another_image_each_time_is_refused_when_it_is_read() -> None:
    cohort = cohort_of(Yielding(noise=0.1), classes=CLASSES)
    with pytest.raises(DosimeterError, match="Turn augmentation off"):
        cohort[0]


def test_a_sweep_takes_a_dataset() -> None:
    images = torch.rand(4, 3, 8, 8)
    classifier = tiny.linear_classifier(torch.randn(3, 8, 8))
    cohort = dm.cohort_of(TensorDataset(images, LABELS[:4]), classes=CLASSES)
    rows = dm.sweep(classifier, cohort, "fgsm", epsilons=["4/255"], compute=dm.Compute(engine="torch"))
    assert rows.frame["case_id"].nunique() == 4
