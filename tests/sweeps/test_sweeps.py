from dataclasses import replace

import numpy as np
import pytest
import torch
from greys import SIZE, cohort, setting, true_labels
from tiny import convolutional_classifier, linear_classifier

import dosimeter as dm
from dosimeter.attacks.base import Problem
from dosimeter.attacks.presets import PRESETS, Preset
from dosimeter.cohorts.base import Cohort, Decoded
from dosimeter.engines.base import TorchEngine
from dosimeter.errors import DosimeterError
from dosimeter.examinations.pictures import picture
from dosimeter.executors import local as executor
from dosimeter.models.base import Classifier
from dosimeter.record.table import SCHEMA
from dosimeter.sweeps.answers import Answers, Question, Target
from dosimeter.sweeps.execute import execute_cell
from dosimeter.sweeps.flips import FLIP_TOLERANCE
from dosimeter.sweeps.paths import Ray, Still
from dosimeter.sweeps.plan import SHARD_SIZE, Setting, plan_cells


def test_every_case_answers_every_epsilon_of_every_storage() -> None:
    responses = dm.sweep(convolutional_classifier(), cohort(5), epsilons=[0.001, "4/255"], storages=["float", "png8"])
    frame = responses.frame
    assert list(frame.columns) == SCHEMA.names
    grid = frame[frame.on_grid]
    assert len(grid) == 5 * 3 * 2
    assert set(grid.groupby(["case_id", "storage"]).size()) == {3}
    assert (frame.status == "ok").all()
    clean = grid[grid.epsilon == 0]
    assert clean.unchanged.all()
    assert (clean.linf == 0).all()


def test_probabilities_predictions_and_doses_agree_with_a_direct_computation() -> None:
    classifier, cases = convolutional_classifier(), cohort(3)
    frame = dm.sweep(classifier, cases, dm.FGSM("margin", "free"), epsilons=[0.003]).frame
    rows = frame[frame.on_grid & (frame.epsilon == 0.003)].sort_values("case_id")
    for case, (_, row) in zip(cases, rows.iterrows(), strict=True):
        image = classifier.prepare(case)[None]
        sign = dm.FGSM("margin", "free").direction(Problem(classifier, image, torch.tensor([case.label]))).sign
        adversarial = (image + 0.003 * sign).clamp(0, 1)
        with torch.inference_mode():
            logits = classifier(adversarial)[0]
        np.testing.assert_allclose(row.logits, logits.numpy(), atol=1e-5)
        np.testing.assert_allclose(row.probabilities, torch.softmax(logits.double(), 0).numpy(), atol=1e-5)
        assert row.predicted == int(logits.argmax())
        assert row.correct == (row.predicted == case.label)
        assert row.linf == pytest.approx(float((adversarial - image).abs().max()))
        assert row.l2 == pytest.approx(float((adversarial - image).norm()), rel=1e-5)


def test_png8_answers_as_clean_below_half_a_grey_level() -> None:
    epsilons = [0.0001, 0.001, 0.00195, 0.002]
    frame = dm.sweep(convolutional_classifier(scale=50), cohort(4), epsilons=epsilons, storages=["png8"]).frame
    for _, case in frame[frame.on_grid].groupby("case_id"):
        small = case[case.epsilon < 0.00196]
        assert small.unchanged.all()
        assert small.logits.map(tuple).nunique() == 1
        assert not case[case.epsilon == 0.002].unchanged.any()


def test_flip_epsilon_of_a_linear_classifier_is_its_closed_form() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(1, 8, 8, generator=generator).expand(3, -1, -1) / 10
    classifier = linear_classifier(weight.contiguous(), bias=0.02)
    cases = true_labels(classifier, cohort(6, size=8))
    frame = dm.sweep(classifier, cases, epsilons=[0.001, 0.01, 0.1]).frame
    for case in cases:
        rows = frame[frame.case_id == case.case_id]
        logits = classifier(classifier.prepare(case)[None])[0]
        expected = float((logits[1] - logits[0]).abs() / weight.sum(dim=0).abs().sum())
        flips = rows[~rows.correct].epsilon
        if expected < 0.1:
            assert flips.min() == pytest.approx(expected, abs=FLIP_TOLERANCE)
            assert flips.min() >= expected - 1e-7
        else:
            assert flips.empty
    assert (~frame.on_grid).any()


def test_misclassified_cases_are_not_refined() -> None:
    classifier = linear_classifier(torch.ones(3, 8, 8), bias=-1e3)
    frame = dm.sweep(classifier, cohort(4, size=8), epsilons=[0.1]).frame
    assert not frame[(frame.epsilon == 0) & (frame.label == 1)].correct.any()
    assert frame.on_grid.all()


class Counting(torch.nn.Module):
    """Counts the images that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.n += len(images)
        return images


def test_identical_images_are_asked_once() -> None:
    classifier = convolutional_classifier()
    classifier.base = torch.nn.Sequential(Counting(), classifier.base)
    image = classifier.prepare(cohort(1)[0])
    target = Target("a", 0, image, Still(), grad_zero=True)
    answers = Answers(TorchEngine(classifier), attack="fgsm", batch_size=2)
    replies = answers.ask(
        [Question(target, storage, e) for storage in ("float", "png8") for e in (0, 0.001, 0.01, 0.1)]
    )
    assert classifier.base[0].n == answers.n_forward == 1
    assert all(reply.unchanged for reply in replies)
    moved = target._replace(path=Ray(torch.ones_like(image)), grad_zero=False)
    answers.ask([Question(moved, "png8", epsilon) for epsilon in (0.0005, 0.001, 0.003, 0.004)])
    assert answers.n_forward == 2  # three quarters and one grey level are the same file; less than half is no change


def test_batch_size_changes_no_answer() -> None:
    classifier, cases = convolutional_classifier(), cohort(4)
    one, many = (
        dm.sweep(classifier, cases, epsilons=[0.01, 0.02], compute=dm.Compute(batch_size=n)).frame for n in (1, 7)
    )
    np.testing.assert_allclose(np.stack(one.logits), np.stack(many.logits), atol=1e-5)


def test_an_unreadable_image_is_one_row_with_its_error_and_names_no_file() -> None:
    cases = cohort(3)

    def fail() -> Decoded:
        raise OSError("/home/ana/patient-smith.png: gone")

    broken = replace(cases.records[1], read=fail)
    cases = replace(cases, records=(cases.records[0], broken, cases.records[2]))
    frame = dm.sweep(convolutional_classifier(), cases, epsilons=[0.01]).frame
    errors = frame[frame.status == "error"]
    assert errors.case_id.tolist() == [broken.case_id]
    assert "smith" not in errors.to_json()
    assert set(frame[frame.status == "ok"].case_id) == {cases.records[0].case_id, cases.records[2].case_id}


def test_logits_that_are_not_finite_are_errors() -> None:
    classifier = convolutional_classifier()
    classifier.head = torch.nn.Sequential(classifier.head, Overflow())
    frame = dm.sweep(classifier, cohort(2), dm.FGSM("margin", "free"), epsilons=[0.01]).frame
    assert (frame.status == "error").all()
    assert frame.error.str.contains("not finite").all()


class Overflow(torch.nn.Module):
    """Finite gradients, infinite logits."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits + torch.tensor([torch.inf, 0.0])


def test_cells_shard_the_cohort_and_their_ids_follow_every_input() -> None:
    classifier, cases = convolutional_classifier(), cohort(SHARD_SIZE + 1)
    cells = list(plan_cells(cases, classifier, setting()))
    assert [len(cell.shard) for cell in cells] == [SHARD_SIZE, 1]

    def first_id(cases: Cohort = cases, classifier: Classifier = classifier, **changes: object) -> str:
        return next(iter(plan_cells(cases, classifier, replace(setting(), **changes)))).cell_id  # type: ignore[arg-type]

    relabelled = replace(cases.records[0], label=1 - cases.records[0].label)
    repainted = replace(cases.records[0], sha256="f" * 64)
    others = [
        first_id(preset=PRESETS["paper"]),
        first_id(epsilons=(0.0, 0.002)),
        first_id(seed=1),
        first_id(protocol="patient"),
        first_id(batch_size=1),
        first_id(engine="winograd"),
        first_id(tolerance=1e-3),
        first_id(refine=False),
        first_id(patients={}),
        first_id(classifier=convolutional_classifier(seed=1)),
        first_id(cases=replace(cases, records=(relabelled, *cases.records[1:]))),
        first_id(cases=replace(cases, records=(repainted, *cases.records[1:]))),
    ]
    assert len({cells[0].cell_id, *others}) == len(others) + 1
    assert first_id() == cells[0].cell_id


def test_rows_carry_pseudonyms_only() -> None:
    cell = next(iter(plan_cells(cohort(4), convolutional_classifier(), setting())))
    rows = execute_cell(cell, convolutional_classifier())
    assert {row["patient_id"] for row in rows} == {"p0001", "p0002"}
    assert not any("name-" in str(value) for row in rows for value in row.values())


def test_pictures_travel_as_png() -> None:
    import base64
    import io

    from PIL import Image

    classifier, cases = convolutional_classifier(), cohort(2)
    for attack, mode in ((dm.FGSM(), "L"), (dm.FGSM(channels="free"), "RGB")):
        setting = Setting("paper", Preset("mine", attack, ("float",), ""), (0.0,), 0, {})
        drawn = picture(cases, cases.records[0].case_id, classifier, setting)
        original, direction = (
            Image.open(io.BytesIO(base64.b64decode(drawn[key]))) for key in ("original_png", "direction_png")
        )
        assert original.size == direction.size == (SIZE, SIZE)
        assert (original.mode, direction.mode) == ("L", mode)
        assert set(np.unique(np.asarray(direction))) <= {0, 128, 255}
        np.testing.assert_array_equal(np.asarray(original), np.rint(cases[0].image[0] * 255))


def test_classes_in_another_order_are_refused() -> None:
    swapped = replace(cohort(2), classes=("opacity", "clear"))
    with pytest.raises(dm.DosimeterError, match="in that order"):
        dm.sweep(convolutional_classifier(), swapped)


def test_unknown_storage_is_named() -> None:
    with pytest.raises(dm.DosimeterError, match="png8"):
        dm.sweep(convolutional_classifier(), cohort(2), storages=["png"])


def test_a_full_gpu_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **how: object) -> list[object]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(executor, "execute_cell", full)
    with pytest.raises(DosimeterError, match="Use --workers 1; what is done is kept"):
        dm.sweep(convolutional_classifier(), cohort(2 * SHARD_SIZE), compute=dm.Compute(workers=2))
