"""Seconds and peak memory of whole studies of more and more phantoms: `python benchmarks/scaling.py`.

The network is a small one in VGG16's place, and phantoms are drawn at 64 x 64, so that what grows with the images is
not hidden behind them. Four fifths of the images train the head, the others are attacked, under both presets at every
default epsilon and with flips refined; then tables, figures and the report are made. Each study runs in a process of
its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from as_markdown import table
from timing import timed

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=(50, 500, 5000))
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--study", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.study:
        return print(json.dumps(study(options.study)))
    lines = []
    for n_threads, n_images in product(options.threads, options.images):
        lines.append({"n_threads": n_threads, "n_images": n_images, **_in_its_own_process(n_threads, n_images)})
        print(lines[-1], file=sys.stderr, flush=True)
    header = ["threads and workers", "images", "rows", "seconds", "ms / image", "peak memory, MiB", "report, MB"]
    print(table(header, [_row(line) for line in lines]))
    if options.json:
        options.json.write_text(json.dumps(lines))
    return None


def _in_its_own_process(n_threads: int, n_images: int) -> dict[str, Any]:
    limits = dict.fromkeys(THREAD_VARIABLES, str(n_threads))
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, **limits, "DOSIMETER_CACHE": cache}
        command = [sys.executable, __file__, "--study", str(n_images)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    numbers: dict[str, Any] = json.loads(done.stdout)
    return numbers


def study(n_images: int) -> dict[str, float]:
    """Run one study in this process and return what it took."""
    import pyarrow.parquet as pq
    from small_network import install_small_network

    from dosimeter.record.provenance import peak_memory_mib
    from dosimeter.study.config import load_config
    from dosimeter.study.run import run_study

    install_small_network()
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(
            cohort="phantom-ct",
            model="vgg16",
            limit=n_images,
            epochs=2,
            batch_size=64,
            engine="torch",
            device="cpu",
            out=Path(folder) / "run",
        )
        seconds, outcome = timed(lambda: run_study(config))
        n_rows = pq.read_metadata(outcome.run.responses).num_rows
        report_mb = outcome.run.report.stat().st_size / 1e6
    return {"n_rows": n_rows, "seconds": seconds, "peak_mib": peak_memory_mib(), "report_mb": report_mb}


def _row(line: dict[str, Any]) -> list[str]:
    per_image = 1000 * line["seconds"] / line["n_images"]
    counts = [f"{line[name]:,}" for name in ("n_images", "n_rows")]
    costs = [f"{line['seconds']:.1f}", f"{per_image:.0f}", f"{line['peak_mib']:.0f}", f"{line['report_mb']:.1f}"]
    return [str(line["n_threads"]), *counts, *costs]


if __name__ == "__main__":
    main()
