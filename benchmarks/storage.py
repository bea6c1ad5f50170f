"""What storage costs a sweep: `python benchmarks/storage.py`.

A sweep with refined flips of images as floats, and the same with 8-bit PNG and 12-bit DICOM files beside them, every
repeat one after the other, with FGSM's sound preset. The study around the sweep (reading, features,
training, the report) costs both the same, so a study's ratio is smaller.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from as_markdown import table
from dosimeter_sweep import choose, sweep
from subjects import MODELS, cohort_names, load_subject
from timing import interleave, ratios, spread

from dosimeter.attacks.presets import PRESETS

MODES = {"float": ("float",), "float, png8, dicom12": ("float", "png8", "dicom12")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="vgg16")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--limit", type=int, default=8, help="images attacked")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    line = measure(options.model, options.engine, options.limit, options.repeats)
    rows = [
        [name, f"{each['median']:.2f}", f"{each['least']:.2f} to {each['most']:.2f}", str(each["rows"])]
        for name, each in line["modes"].items()
    ]
    print(f"{options.limit} images of {cohort_names()[0]}, {options.model}, engine {line['engine']}, a cell a core.\n")
    print(table(["storages", "seconds", "range", "rows"], rows))
    print(f"\nRatio {line['ratio'][0]:.2f} ({line['ratio'][1]:.2f} to {line['ratio'][2]:.2f}).")
    if options.json:
        options.json.write_text(json.dumps(line))


def measure(model: str, engine: str, n_images: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of each sweep and the ratio of both."""
    classifier, cohort, _, _ = load_subject(model, n_images=n_images)
    chosen = choose(engine, classifier, cohort, refine=True)
    if isinstance(chosen, str):
        raise SystemExit(chosen)
    attack = PRESETS["sound"].attack

    def run(storages: tuple[str, ...]) -> int:
        frame = sweep(chosen.plan, classifier, cohort, attack, storages=storages, refine=True).frame
        assert (frame["status"] == "ok").all()
        return len(frame)

    parties = {name: lambda _, storages=storages: run(storages) for name, storages in MODES.items()}
    runs = interleave(parties, repeats=repeats)
    seconds = {name: [each.seconds for each in timed] for name, timed in runs.items()}
    floats, files = seconds.values()
    return {
        "model": model,
        "engine": chosen.plan.name,
        "n_images": n_images,
        "modes": {name: {**spread(values)._asdict(), "rows": runs[name][0].result} for name, values in seconds.items()},
        "ratio": list(ratios(files, floats)),
    }


if __name__ == "__main__":
    main()
