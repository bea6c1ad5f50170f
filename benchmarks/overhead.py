"""The share of a VGG16 study that is not network passes: `python benchmarks/overhead.py`.

A study of a few images on one core, where wall time is what everything costs together, with a clock in every network
pass. The few images are then scaled to the paper's X-ray cohort: what is done for each image grows, what is done once
(weights, the choice of the engine, the report) does not.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from as_markdown import table
from dosimeter_sweep import STUDY_PASSES
from network_clock import NetworkClock
from subjects import MODELS, cohort_names
from timing import timed

import dosimeter.examinations.known.preflights
import dosimeter.study.run
from dosimeter.engines.choose import EnginePlan, plan_engine
from dosimeter.examinations.preflight import examine
from dosimeter.study.config import load_config

PAPER_IMAGES, PAPER_TEST_IMAGES = 268, 54
GROWS_WITH = {"read": PAPER_IMAGES, "features": PAPER_IMAGES, "training": PAPER_IMAGES, "sweep": PAPER_TEST_IMAGES}
"""Stages whose work is done for each image, and how many images a study of the paper's size has there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="vgg16")
    parser.add_argument("--engine", nargs="+", default=("torch", "auto"))
    parser.add_argument("--limit", type=int, default=20, help="images, a fifth of them attacked")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [measure(options.model, engine, options.limit) for engine in options.engine]
    print(
        f"{options.limit} images of {cohort_names()[0]}, one core. Scaled: to {PAPER_IMAGES} images, "
        f"{PAPER_TEST_IMAGES} of them attacked.\n"
    )
    print("\n\n".join(_section(line) for line in lines))
    if options.json:
        options.json.write_text(json.dumps(lines))


def measure(model: str, engine: str, limit: int) -> dict[str, Any]:
    """Run a study and return each stage's seconds, in networks and outside them."""
    choosing, examining = _Watch(), _Watch()
    # The study that this one is scaled to decides whether a choice of the engine pays.
    choose = choosing.of(_choose_for_a_study)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = load_config(
            cohort=cohort_names()[0],
            model=model,
            protocol="paper",
            limit=limit,
            engine=engine,
            device="cpu",
            workers=1,
            out=folder / "run",
        )
        with (
            mock.patch.object(dosimeter.study.run, "plan_engine", choose),
            mock.patch.object(dosimeter.examinations.known.preflights, "examine", examining.of(examine)),
            mock.patch("dosimeter.models.features.cache_dir", return_value=folder),  # no map is there yet
            NetworkClock().running() as clock,
        ):
            total_s, outcome = timed(lambda: dosimeter.study.run.run_study(config))
        stages = {each["stage"]: float(each["duration_s"]) for each in outcome.run.manifest["stages"]}
    stages["merging and the rest"] = total_s - sum(stages.values())
    watches = {"engine": choosing, "preflights": examining}
    networks = {stage: watch.clock.seconds for stage, watch in watches.items()}
    for kind in ("features", "training"):
        networks[kind] = clock.by_kind[kind] - sum(watch.clock.by_kind[kind] for watch in watches.values())
    networks["sweep"] = clock.seconds - sum(networks.values())
    n_images = {"read": limit, "features": limit, "training": limit, "sweep": round(limit / 5)}
    factors = {name: GROWS_WITH[name] / n_images[name] if name in GROWS_WITH else 1.0 for name in stages}
    return {
        "engine": engine,
        "chosen": choosing.result.name,
        "stages": {name: [seconds, networks.get(name, 0.0), factors[name]] for name, seconds in stages.items()},
        "share": _share(stages, networks, dict.fromkeys(stages, 1.0)),
        "share_scaled": _share(stages, networks, factors),
    }


class _Watch:
    """Seconds that a function takes over all its calls, a clock of the networks inside it, and its last result."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.clock = NetworkClock()
        self.result: Any = None

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, watched."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.clock.running():
                seconds, self.result = timed(lambda: function(*args, **kwargs))
            self.seconds += seconds
            return self.result

        return watched


def _choose_for_a_study(*args: Any, n_passes: int, refine: bool) -> EnginePlan:
    del n_passes
    return plan_engine(*args, n_passes=STUDY_PASSES, refine=refine)


def _share(stages: Mapping[str, float], networks: Mapping[str, float], factors: Mapping[str, float]) -> float:
    """Return the share of time outside networks, each stage taken `factors` times."""
    total = sum(seconds * factors[name] for name, seconds in stages.items())
    return 1 - sum(seconds * factors[name] for name, seconds in networks.items()) / total


def _section(line: Mapping[str, Any]) -> str:
    rows = []
    for name, (seconds, in_networks, factor) in line["stages"].items():
        outside = seconds - in_networks
        rows.append([name, f"{seconds:.2f}", f"{in_networks:.2f}", f"{outside:.2f}", f"{factor * outside:.2f}"])
    header = ["stage", "seconds", "in networks", "outside", "outside, scaled"]
    return (
        f"Engine {line['engine']} ({line['chosen']}): {line['share']:.1%} of this study is outside networks, "
        f"{line['share_scaled']:.1%} of one of the paper's size.\n\n{table(header, rows)}"
    )


if __name__ == "__main__":
    main()
