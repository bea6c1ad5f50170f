"""The benchmarks' own arithmetic, and that all parties of the sweep answer the same question."""

import ast
import importlib
import io
import runpy
import sys
import time
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from tiny import convolutional_classifier

import dosimeter as dm
from dosimeter.attacks.base import Problem
from dosimeter.engines.choose import EnginePlan

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
EPSILONS = (0.001, 0.01, 0.05)


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_importable() -> None:
    sys.path.insert(0, str(FOLDER))
    yield  # type: ignore[misc]
    sys.path.remove(str(FOLDER))


@pytest.fixture
def cohort() -> dm.Cohort:
    """Four small phantoms."""
    return dm.load_cohort("phantom-ct", limit=4)


@pytest.fixture
def classifier() -> dm.Classifier:
    """A network so unsure that small doses change its answers."""
    return convolutional_classifier(3)


def _inputs(classifier: dm.Classifier, cohort: dm.Cohort) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([classifier.prepare(case) for case in cohort]), torch.from_numpy(cohort.labels)


def test_repeats_are_interleaved_and_rotated() -> None:
    from timing import interleave

    called: list[str] = []
    parties = {name: lambda repeat, name=name: called.append(f"{name}{repeat}") for name in "ABC"}
    runs = interleave(parties, repeats=3)
    assert called == ["A0", "B0", "C0", "B1", "C1", "A1", "C2", "A2", "B2"]
    assert all(len(each) == 3 for each in runs.values())


def test_a_script_is_not_taken_for_the_package_coverage() -> None:
    """Numba, and so Foolbox, imports `coverage` where it finds it, and does without where that raises ImportError."""
    with pytest.raises(ImportError, match="is a script"):
        runpy.run_path(str(FOLDER / "coverage.py"), run_name="coverage")


def test_the_table_of_coverage_has_every_kind_of_interval() -> None:
    from coverage_page import page, ranges
    from interval_coverage import PARTS

    lines = [line for part in PARTS for line in part(0.004)]
    kinds = {line.kind for line in lines}
    assert {"share of images", "accuracy, whole curve (band)", "paired comparison", "readers' threshold"} <= kinds
    assert all(0 <= line.covered <= 1 or line.without == 1 for line in lines)
    text = page(lines, "Made-up answers.", 60.0)
    assert all(kind in text for kind in kinds)
    assert f"Of {len(lines)} lines " in text
    quoted = pd.read_csv(io.StringIO(ranges(lines)), keep_default_na=False)
    assert set(quoted["interval"]) == kinds
    assert set(quoted["sample"]) == {"few", "alone", "several", ""}


def test_what_reports_quote_of_coverage_is_what_the_table_says() -> None:
    """Both files are of one run of benchmarks/coverage.py: whoever remakes one remakes the other."""
    from coverage_page import RANGES

    rows = [line.strip("| ").split(" | ") for line in (FOLDER / "RESULTS-COVERAGE.md").read_text().splitlines()[8:]]
    held: dict[str, list[float]] = {}
    for row in rows:
        if len(row) == 6 and row[3] != "-":
            held.setdefault(row[0], []).append(float(row[3].removesuffix(" %")))
    quoted = pd.read_csv(RANGES, keep_default_na=False).groupby("interval")
    assert set(quoted.groups) == set(held)
    for kind, ranges in quoted:
        assert 100 * ranges["lowest"].min() == pytest.approx(min(held[str(kind)]), abs=0.06)
        assert 100 * ranges["highest"].max() == pytest.approx(max(held[str(kind)]), abs=0.06)


def test_ratios_are_of_medians_with_the_range_within_repeats() -> None:
    from timing import ratios

    assert ratios([2.0, 6.0, 30.0], [1.0, 2.0, 10.0]) == (3.0, 2.0, 3.0)


def test_the_floor_and_dosimeter_answer_alike(classifier: dm.Classifier, cohort: dm.Cohort) -> None:
    import dosimeter_sweep
    import floor
    from answers import agreement

    images, labels = _inputs(classifier, cohort)
    expected = floor.sweep(classifier, images, labels, EPSILONS, floor.Batches(3, 2))
    attack = dm.FGSM(loss="cross_entropy", channels="free")
    rows = dosimeter_sweep.sweep(EnginePlan("torch", 2), classifier, cohort, attack, epsilons=EPSILONS)
    found = dosimeter_sweep.answers(rows, cohort, EPSILONS)
    assert len(found.predicted.unique()) == 2
    n, n_differing, error = agreement(found, expected)
    assert (n, n_differing) == (len(cohort) * len(EPSILONS), 0)
    assert error == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ["Foolbox", "ART", "torchattacks"])
@pytest.mark.parametrize("documented", [True, False])
def test_a_peer_answers_as_the_floor(name: str, documented: bool, classifier: dm.Classifier, cohort: dm.Cohort) -> None:
    import floor
    from answers import agreement
    from peers import PEERS, AsLoaded, in_batches

    network = AsLoaded(classifier) if documented else classifier
    try:
        sweep = PEERS[name][1](network, size_px=classifier.size_px)
    except ImportError:
        pytest.skip(f"{name} is not installed")
    images, labels = _inputs(classifier, cohort)
    expected = floor.sweep(classifier, images, labels, EPSILONS, floor.Batches(1, 1))
    for batch_size in (1, 3):
        found = in_batches(sweep, batch_size)(images, labels, EPSILONS)
        assert agreement(found, expected).n_differing == 0
        if found.logits is not None:
            torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=0)
    assert any(parameter.requires_grad for parameter in network.parameters()) is documented
    assert not any(module.training for module in network.modules())


def test_disagreement_is_counted() -> None:
    from answers import Answers, agreement

    logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    other = logits.clone()
    other[1, 0] = torch.tensor([2.0, 1.0])
    assert agreement(Answers.of(other), Answers.of(logits)) == (4, 1, 2.0)
    assert agreement(Answers(Answers.of(other).predicted, None), Answers.of(logits)) == (4, 1, None)


def test_a_missing_peer_is_a_line_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, classifier: dm.Classifier, cohort: dm.Cohort
) -> None:
    import sweep
    from subjects import Subject

    for package in ("foolbox", "art.attacks.evasion", "torchattacks"):
        monkeypatch.setitem(sys.modules, package, None)
    subject = Subject(classifier, cohort, *_inputs(classifier, cohort))
    parties = dict(sweep._peers(subject, 1))
    assert set(parties.values()) == {"not installed"}
    assert len(parties) == 6


def test_the_clock_counts_a_pass_inside_a_pass_once(classifier: dm.Classifier) -> None:
    from network_clock import NetworkClock

    from dosimeter.engines.base import TorchEngine

    with NetworkClock().running() as clock:
        started = time.perf_counter()
        TorchEngine(classifier).logits(torch.rand(2, 3, 32, 32))
        elapsed = time.perf_counter() - started
        dm.FGSM().direction(Problem(classifier, torch.rand(1, 3, 32, 32), torch.tensor([0])))
    assert set(clock.by_kind) == {"answers", "gradients"}
    assert 0 < clock.by_kind["answers"] <= elapsed
    before = clock.seconds
    TorchEngine(classifier).logits(torch.rand(2, 3, 32, 32))
    assert clock.seconds == before


def test_labels_and_flips_that_differ_are_counted(classifier: dm.Classifier, cohort: dm.Cohort) -> None:
    import labels

    frame = labels._sweep(EnginePlan("torch", 4), classifier, cohort)
    same = labels.compare(frame, frame)
    assert same["n_rows"] == len(frame)
    assert same["n_flips"] > 0
    assert [same[name] for name in ("n_single", "n_labels", "n_flips_differing", "logit_error")] == [0, 0, 0, 0.0]
    # Without its refinement a flip is known less well: the ends are the same, the rows between are gone.
    coarse = labels.compare(frame, frame[frame["on_grid"]])
    assert coarse["n_single"] == (~frame["on_grid"]).sum()
    assert coarse["n_flips_differing"] == same["n_flips"]
    changed = frame.assign(predicted=frame["predicted"].where(frame["epsilon"] != 0.09, 1 - frame["predicted"]))
    assert labels.compare(frame, changed)["n_labels"] == (frame["epsilon"] == 0.09).sum()


@pytest.fixture
def targets() -> ModuleType:
    import targets

    return targets


def _party(**ratios: float) -> dict[str, object]:
    return {"n_differing": 0, **{name: [value, value, value] for name, value in ratios.items()}}


def test_targets_are_judged_by_the_worst_number(targets: ModuleType) -> None:
    documented, tuned = _party(to_auto=9.0), _party(to_auto=3.9)
    vgg16 = {
        "Foolbox documented": documented,
        "ART documented": documented,
        **{f"{name} tuned": documented for name in ("Foolbox", "ART")},
        "torchattacks tuned": tuned,
        "dosimeter torch": _party(to_floor=1.05),
        "dosimeter auto": _party(to_floor=0.55),
    }
    numbers = {
        "sweep": {"models": {"vgg16": {"parties": vgg16}}},
        "training": [{"model": "vgg16", "ratio": [250.0, 240.0, 260.0]}],
        "scaling": [
            {"n_threads": threads, "n_images": n_images, "peak_mib": mib}
            for threads, n_images, mib in ((1, 500, 100), (1, 5000, 105), (2, 500, 100), (2, 5000, 112))
        ],
        "overhead": [{"share_scaled": 0.04}, {"share_scaled": 0.0712}],
        "labels": [{"n_labels": 0, "n_flips_differing": 0}],
    }
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in targets.judge(numbers).splitlines()[2:]]
    assert [row[2:] for row in rows] == [
        ["9 times", "reached"],
        ["3.9 times", "**not reached**"],
        ["1.05 times", "reached"],
        ["0.55 times", "reached"],
        ["not measured", ""],
        ["250 times", "reached"],
        ["1.12 times", "**not reached**"],
        ["7.1 %", "reached"],
        ["0", "reached"],
    ]
    assert targets.judge({}).count("not measured") == len(targets.TARGETS)
    assert targets.judge({}, long=True).count("not measured") == len(targets.LONG_TARGETS)


def test_targets_of_long_benchmarks_are_read_from_their_numbers(targets: ModuleType) -> None:
    numbers = {
        "labels": [{"n_labels": 0, "n_flips_differing": 1}],
        "scaling": [
            {"n_images": 5000, "peak_mib": 1000, "report_mb": 3},
            {"n_images": 50_000, "peak_mib": 1050, "report_mb": 4},
        ],
        "cluster": {
            "local": {"overhead": 0.0, "lost": 0, "doubled": 0, "tables": 0},
            "ray": {"overhead": 0.021, "lost": 0, "doubled": 0, "tables": 0},
            "ray, lossy": {"overhead": 0.5, "lost": 1, "doubled": 0, "tables": 0},
        },
    }
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in targets.judge(numbers, long=True).splitlines()[2:]
    ]
    assert [row[2:] for row in rows] == [
        ["1", "**not reached**"],
        ["1.05 times", "reached"],
        ["4 MB", "reached"],
        ["2.1 %", "reached"],
        ["1", "**not reached**"],
    ]


def test_overhead_is_what_is_left_of_each_stage_at_its_scale() -> None:
    import overhead

    stages, networks = {"sweep": 10.0, "report": 2.0}, {"sweep": 9.0}
    assert overhead._share(stages, networks, {"sweep": 1.0, "report": 1.0}) == pytest.approx(3 / 12)
    assert overhead._share(stages, networks, {"sweep": 10.0, "report": 1.0}) == pytest.approx(12 / 102)


def test_a_peer_takes_other_images_in_each_repeat(classifier: dm.Classifier, cohort: dm.Cohort) -> None:
    import sweep
    from answers import Answers
    from subjects import Subject

    asked: list[int] = []

    def peer(images: torch.Tensor, labels: torch.Tensor, epsilons: tuple[float, ...]) -> Answers:
        asked.append(len(images))
        return Answers(labels[:, None].expand(-1, len(epsilons)), None)

    party = sweep._peer(peer, Subject(classifier, cohort, *_inputs(classifier, cohort)), 2)
    assert [party.places(repeat) for repeat in range(3)] == [slice(0, 2), slice(2, 4), slice(0, 2)]
    assert party.run(party.places(1)).predicted[:, 0].tolist() == cohort.labels[2:].tolist()
    assert max(asked) == 2


def test_the_page_on_agreement_says_whether_attacks_agree(
    classifier: dm.Classifier, cohort: dm.Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import agreement

    images, _ = _inputs(classifier, cohort)
    mine = agreement.Subject("tiny", classifier, images, classifier(images).argmax(dim=1))
    monkeypatch.setattr(agreement, "subject", lambda *_: mine)
    page = tmp_path / "agreement.md"
    monkeypatch.setattr(sys, "argv", ["agreement.py", "--cohort", "phantom-ct", "--model", "vgg16", "--out", str(page)])
    agreement.main()
    lines = [line for line in page.read_text().splitlines() if line.startswith("| tiny")]
    assert sum("PGD | Foolbox" in line for line in lines) == len(agreement.EPSILONS)
    assert sum("DeepFool | Foolbox" in line for line in lines) == 1
    assert all(line.endswith("| agree |") for line in lines)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_imports_what_dosimeter_has(path: Path) -> None:
    """Most take long, so no test runs them: a name that has moved shows here."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dosimeter"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
