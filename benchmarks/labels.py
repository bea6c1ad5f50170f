"""The proof that a fast engine gives torch's answers: `python benchmarks/labels.py [--test-images N]`.

Whole studies' sweeps, every preset, storage and epsilon of the default grid and the refinement of every flip, once with
torch and once with the engine that `auto` chooses; then every row is compared. Without DOSIMETER_DATA it is phantoms.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import dosimeter_sweep
import numpy as np
import pandas as pd
import torch
from as_markdown import table
from network_clock import NetworkClock
from subjects import MODELS, cohort_names
from timing import timed

import dosimeter as dm
from dosimeter.analysis.flips import flip_epsilon
from dosimeter.attacks.presets import PRESETS
from dosimeter.engines.choose import EnginePlan
from dosimeter.sweeps.plan import SHARD_SIZE

KEYS = ["preset", "storage", "case_id", "epsilon"]
FLIP_KEYS = ["preset", "storage", "case_id"]
HEADER = (
    *("cohort", "network", "engine", "images", "rows", "rows of one only", "labels that differ", "flips"),
    *("flips that differ", "largest logit difference", "torch, s", "engine, s", "ratio", "outside networks"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", nargs="+", default=cohort_names())
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--limit", type=int, help="images of each cohort, a fifth of them for testing; default: all")
    parser.add_argument("--test-images", type=int, help="attack so many of these; default: all")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    lines = []
    for cohort, model in product(options.cohort, options.model):
        lines.append(measure(cohort, model, options))
        print(f"{cohort}, {model}: {lines[-1]}", file=sys.stderr, flush=True)
    print(
        f"{torch.get_num_threads()} threads. The engine's seconds include torch's second opinions, not the choice of "
        "the engine, done once for a classifier. Outside networks: the share of the engine's sweep that its workers "
        "spend on reading, storing, measuring, tabulating and waiting.\n"
    )
    print(table(HEADER, [_row(line) for line in lines], text_columns=3))
    if options.json:
        options.json.write_text(json.dumps(lines))


def measure(cohort: str, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Sweep the test images of a cohort twice and return how the sweeps differ."""
    engine = options.engine
    halves = dm.split(dm.load_cohort(cohort, limit=options.limit), "paper")
    classifier = dm.fit(model, halves)
    n_images = min(options.test_images or len(halves.test), len(halves.test))
    places = np.linspace(0, len(halves.test) - 1, n_images).round().astype(int)  # of both classes
    test = halves.test.subset(places.tolist())
    plans = {name: dosimeter_sweep.choose(name, classifier, test, refine=True) for name in ("torch", engine)}
    frames, seconds, share = {}, {}, 0.0
    for name, choice in plans.items():
        if isinstance(choice, str):
            sys.exit(choice)
        with NetworkClock().running() as clock:
            seconds[name], frames[name] = timed(lambda plan=choice.plan: _sweep(plan, classifier, test))  # type: ignore[misc]
        n_workers = min(torch.get_num_threads(), -(-len(test) // SHARD_SIZE))
        share = 1 - clock.seconds / n_workers / seconds[name]
    chosen = plans[engine].plan.name  # type: ignore[union-attr]
    facts = {"cohort": cohort, "model": model, "engine": chosen, "n_images": len(test), "share_outside": share}
    return facts | {
        "torch_s": seconds["torch"],
        "engine_s": seconds[engine],
        **compare(frames["torch"], frames[engine]),
    }


def _sweep(plan: EnginePlan, classifier: dm.Classifier, test: dm.Cohort) -> pd.DataFrame:
    frames = []
    for preset in PRESETS.values():
        responses = dosimeter_sweep.sweep(plan, classifier, test, preset.attack, storages=preset.storages, refine=True)
        frames.append(responses.frame.assign(preset=preset.name))
    return pd.concat(frames, ignore_index=True)


def compare(expected: pd.DataFrame, found: pd.DataFrame) -> dict[str, Any]:
    """Return how two response tables of the same cases differ.

    Returns:
        n_rows that both have; n_single rows that one alone has, which is where a refinement took another path;
        n_labels that differ; n_flips and of them n_flips_differing, in the flip or in how well it is known;
        logit_error, the largest difference.
    """
    columns = [*KEYS, "predicted", "logits"]
    rows = expected[columns].merge(found[columns], on=KEYS, how="outer", suffixes=("", "_found"), indicator=True)
    both = rows[rows["_merge"] == "both"]
    logits = [np.stack(both[name].to_list()) for name in ("logits", "logits_found")]
    flips = [flip_epsilon(frame).set_index(FLIP_KEYS).sort_index() for frame in (expected, found)]
    values = [each[["flip_epsilon", "uncertainty"]].fillna(-1) for each in flips]
    return {
        "n_rows": len(both),
        "n_single": len(rows) - len(both),
        "n_labels": int((both["predicted"] != both["predicted_found"]).sum()),
        "n_flips": int(flips[0]["flip_epsilon"].notna().sum()),
        "n_flips_differing": int((values[0] != values[1]).any(axis=1).sum()),
        "logit_error": float(np.abs(logits[0] - logits[1]).max()),
    }


def _row(line: dict[str, Any]) -> list[str]:
    counts = [
        f"{line[name]:,}" for name in ("n_images", "n_rows", "n_single", "n_labels", "n_flips", "n_flips_differing")
    ]
    seconds = [f"{line[name]:.0f}" for name in ("torch_s", "engine_s")]
    ratio = f"{line['engine_s'] / line['torch_s']:.2f}"
    names = [line[name] for name in ("cohort", "model", "engine")]
    return [*names, *counts, f"{line['logit_error']:.1e}", *seconds, ratio, f"{line['share_outside']:.1%}"]


if __name__ == "__main__":
    main()
