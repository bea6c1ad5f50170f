"""How long a large run takes to be reported, and in how much memory: `python benchmarks/report_scale.py`.

A table of made-up answers is written in seconds, without images or networks; then tables, figures and report are drawn
from it in a process of its own, on one core. The numbers come as one line of a Markdown table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
HEAD = """| rows | images | seconds | peak MiB | report MB |
|---:|---:|---:|---:|---:|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--images-per-patient", type=int, default=2)
    parser.add_argument("--step", choices=("write", "redraw"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "write":
        return write(options.folder, options.images, options.images_per_patient)
    if options.step == "redraw":
        return print(json.dumps(redraw(options.folder)))
    with tempfile.TemporaryDirectory() as name:
        # Each step in a process of its own, so that the peak is of the drawing alone.
        steps = [step(each, Path(name) / "run", options) for each in ("write", "redraw")]
    numbers = json.loads(steps[-1])
    print(HEAD)
    print("| {rows:,} | {images:,} | {seconds:.1f} | {peak_mib:.0f} | {report_mb:.2f} |".format(**numbers))
    return None


def step(name: str, folder: Path, options: argparse.Namespace) -> str:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    arguments = ["--step", name, "--folder", str(folder), "--images", str(options.images)]
    arguments += ["--images-per-patient", str(options.images_per_patient)]
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, env={**os.environ, **threads}, check=True, stdout=subprocess.PIPE, text=True).stdout


def write(folder: Path, n_images: int, images_per_patient: int) -> None:
    sys.path.insert(0, str(SUPPORT))
    from response_factory import EPSILONS, write_large_run

    epsilons = sorted({*EPSILONS, 0.02})  # 20
    write_large_run(folder, n_cases=n_images, epsilons=epsilons, images_per_patient=images_per_patient)


def redraw(folder: Path) -> dict[str, float]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
    started = time.perf_counter()
    from dosimeter import report
    from dosimeter.record import table as responses
    from dosimeter.record.provenance import peak_memory_mib

    page = report.redraw(folder)
    seconds, peak_mib = time.perf_counter() - started, peak_memory_mib()
    frame = responses.read_compact(folder / "responses.parquet").frame
    return {
        "rows": len(frame),
        "images": frame["case_id"].nunique(),
        "seconds": seconds,
        "peak_mib": peak_mib,
        "report_mb": page.stat().st_size / 1e6,
    }


if __name__ == "__main__":
    main()
