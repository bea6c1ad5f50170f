"""What the benchmarks should reach, and whether they do. Ratios are of one run on a machine with 2 cores and no GPU."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from as_markdown import table

Numbers = Mapping[str, Any]
"""What each benchmark wrote with --json, by its name."""


class Target(NamedTuple):
    """A number to reach.

    Attributes:
        limit: the number.
        sign: 1 if the measured one must be at least the limit, -1 if at most.
        measured: the numbers that must all reach it; a KeyError says that one was not measured.
        unit: after the number, "%" for shares.
    """

    what: str
    limit: float
    sign: int
    measured: Callable[[Numbers], list[float]]
    unit: str = " times"


def judge(numbers: Numbers, *, long: bool = False) -> str:
    """Return the table of targets, those of the long benchmarks if `long`; of several numbers the worst counts."""
    targets = LONG_TARGETS if long else TARGETS
    return table(["what", "reach", "measured", ""], [_row(target, numbers) for target in targets])


def _row(target: Target, numbers: Numbers) -> list[str]:
    bound = "at least" if target.sign > 0 else "at most"
    reach = f"{bound} {_shown(target.limit, target)}"
    try:
        measured = target.measured(numbers)
    except (KeyError, IndexError):
        return [target.what, reach, "not measured", ""]
    worst = min(measured, key=lambda value: value * target.sign)
    reached = (worst - target.limit) * target.sign >= 0
    return [target.what, reach, _shown(worst, target), "reached" if reached else "**not reached**"]


def _shown(value: float, target: Target) -> str:
    if target.unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.3g}{target.unit}"


def _party(model: str, reference: str, *parties: str) -> Callable[[Numbers], list[float]]:
    """Return what looks up the median ratios of `parties` to a reference, "to_auto" or "to_floor"."""

    def measured(numbers: Numbers) -> list[float]:
        lines = numbers["sweep"]["models"][model]["parties"]
        return [lines[party][reference][0] for party in parties]

    return measured


def _training(numbers: Numbers) -> list[float]:
    return [line["ratio"][0] for line in numbers["training"] if line["model"] == "vgg16"][:1] or _missing("vgg16")


def _memory(numbers: Numbers) -> list[float]:
    peak = {(line["n_threads"], line["n_images"]): line["peak_mib"] for line in numbers["scaling"]}
    return [peak[n_threads, 5000] / peak[n_threads, 500] for n_threads in {key[0] for key in peak}]


def _many_images(key: str, reference: int | None = None) -> Callable[[Numbers], list[float]]:
    """Return what looks up a number of the study of 50,000 images, or its ratio to a smaller one's."""

    def measured(numbers: Numbers) -> list[float]:
        found = {line["n_images"]: float(line[key]) for line in numbers["scaling"]}
        return [found[50_000] / (1.0 if reference is None else found[reference])]

    return measured


def _overhead(numbers: Numbers) -> list[float]:
    return [line["share_scaled"] for line in numbers["overhead"]]


def _differences(numbers: Numbers) -> list[float]:
    studies = [line["n_labels"] + line["n_flips_differing"] for line in numbers["labels"]]
    sweeps = [
        line["n_differing"]
        for model in numbers.get("sweep", {"models": {}})["models"].values()
        for party, line in model["parties"].items()
        if party.startswith("dosimeter")
    ]
    return [float(sum(studies) + sum(sweeps))]


def _on_cluster(key: str) -> Callable[[Numbers], list[float]]:
    """Return what looks up a number of the cluster's whole study, `key` being one of `cluster.compare`."""
    return lambda numbers: [float(numbers["cluster"]["ray"][key])]


def _lost(numbers: Numbers) -> list[float]:
    studies = numbers["cluster"].values()
    if len(studies) < 3:
        raise KeyError("the study that loses a node")
    return [float(line["lost"] + line["doubled"] + line["tables"]) for line in studies]


def _missing(name: str) -> list[float]:
    raise KeyError(name)


TARGETS = (
    Target(
        "VGG16, 12 epsilons, against Foolbox and ART as documented",
        8.0,
        1,
        _party("vgg16", "to_auto", "Foolbox documented", "ART documented"),
    ),
    Target(
        "the same against the tuned peers",
        4.0,
        1,
        _party("vgg16", "to_auto", "Foolbox tuned", "ART tuned", "torchattacks tuned"),
    ),
    Target("VGG16 against the floor, torch engine", 1.05, -1, _party("vgg16", "to_floor", "dosimeter torch")),
    Target("VGG16 against the floor, fast engine", 0.6, -1, _party("vgg16", "to_floor", "dosimeter auto")),
    Target(
        "Inception-v3, 12 epsilons, against Foolbox as documented",
        4.0,
        1,
        _party("inception_v3", "to_auto", "Foolbox documented"),
    ),
    Target("VGG16's head on cached features against end-to-end epochs", 100.0, 1, _training),
    Target("peak memory, 5,000 against 500 images", 1.1, -1, _memory),
    Target("everything but network passes in a VGG16 study", 0.1, -1, _overhead, "%"),
    Target("predicted classes and flips unlike torch's", 0.0, -1, _differences, ""),
)
LONG_TARGETS = (
    Target("predicted classes and flips unlike torch's", 0.0, -1, _differences, ""),
    Target("peak memory, 50,000 against 5,000 images", 1.1, -1, _many_images("peak_mib", 5000)),
    Target("report of 50,000 images", 10.0, -1, _many_images("report_mb"), " MB"),
    Target("a cluster's study against this machine's", 0.05, -1, _on_cluster("overhead"), "%"),
    Target("rows lost or doubled, tables that differ, also when a node is lost", 0.0, -1, _lost, ""),
)
