"""All benchmarks, one after the other, into `benchmarks/RESULTS.md`: `make bench`.

Each runs in a process of its own; one that fails is named, and the others go on. Without DOSIMETER_DATA the images are
phantoms. It takes about 40 minutes on 2 cores, which should have nothing else to do. With `--long` it is what takes
hours instead: every test image compared with torch, 50,000 images, a cluster; into `benchmarks/RESULTS-LONG.md`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from targets import judge

from dosimeter.provenance import environment

HERE = Path(__file__).parent
PACKAGES = ("dosimeter", "numba", "ncnn", "pnnx")


class Benchmark(NamedTuple):
    """A script beside this one, its arguments, and those of a smoke test."""

    script: str
    title: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]


BENCHMARKS = (
    Benchmark(
        "sweep", "The epsilon sweep, side by side", (), ("--images", "1", "--repeats", "1", "--model", "inception_v3")
    ),
    Benchmark("overhead", "Everything but network passes", (), ("--limit", "10", "--engine", "torch")),
    Benchmark(
        "labels",
        "The same answers as torch's",
        ("--limit", "120", "--test-images", "4"),
        ("--limit", "10", "--test-images", "1", "--model", "vgg16"),
    ),
    Benchmark(
        "training", "Head training", (), ("--limit", "10", "--repeats", "1", "--epochs", "3", "--model", "vgg16")
    ),
    Benchmark("scaling", "Whole studies with a small network", (), ("--images", "50", "60", "--threads", "1")),
)
LONG = (
    Benchmark("cluster", "On a cluster", ("--limit", "260"), ("--limit", "20", "--epochs", "1")),
    Benchmark(
        "scaling",
        "Whole studies of many images",
        ("--images", "500", "5000", "50000", "--threads", "2"),
        ("--images", "50", "60", "--threads", "1"),
    ),
    Benchmark("labels", "The same answers as torch's", (), ("--limit", "10", "--test-images", "1", "--model", "vgg16")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted({benchmark.script for benchmark in (*BENCHMARKS, *LONG)}))
    parser.add_argument("--long", action="store_true", help="those that take hours")
    parser.add_argument("--quick", action="store_true", help="a smoke test: prints numbers that mean nothing")
    parser.add_argument(
        "--out",
        type=Path,
        help="default: RESULTS.md or RESULTS-LONG.md beside this file; the screen with --quick or --only",
    )
    options = parser.parse_args()
    started = time.perf_counter()
    benchmarks, name = (LONG, "RESULTS-LONG.md") if options.long else (BENCHMARKS, "RESULTS.md")
    out = options.out or (None if options.quick or options.only else HERE / name)
    numbers: dict[str, Any] = {}
    sections = []
    page = ""
    for benchmark in benchmarks:
        if options.only and benchmark.script not in options.only:
            continue
        print(f"--- {benchmark.title}", file=sys.stderr, flush=True)
        arguments = benchmark.quick if options.quick else benchmark.arguments
        text, found = run(benchmark.script, arguments)
        sections.append(
            f"## {benchmark.title}\n\n`python benchmarks/{' '.join((_file(benchmark), *arguments))}`\n\n{text}"
        )
        numbers |= {} if found is None else {benchmark.script: found}
        minutes = (time.perf_counter() - started) / 60
        page = (
            "\n\n".join(
                [_head(minutes, quick=options.quick), "## Targets", judge(numbers, long=options.long), *sections]
            )
            + "\n"
        )
        if out is not None:
            out.write_text(page, encoding="utf-8")  # after each, so that an interrupted run leaves what it measured
    if out is None:
        print(page)
    else:
        print(f"written: {out}", file=sys.stderr)
    if len(numbers) < len(sections):
        sys.exit(1)


def run(script: str, arguments: tuple[str, ...]) -> tuple[str, Any]:
    """Return what a script prints and the numbers it writes; None for these if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "numbers.json"
        command = [sys.executable, str(HERE / f"{script}.py"), *arguments, "--json", str(file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            return f"It failed with exit code {done.returncode}.", None
        return done.stdout.strip(), json.loads(file.read_text(encoding="utf-8"))


def _file(benchmark: Benchmark) -> str:
    return f"{benchmark.script}.py"


def _head(minutes: float, *, quick: bool) -> str:
    machine = environment("cpu")
    packages = {name: machine[name] for name in ("python", "torch", "numpy")} | _versions()
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    warning = ["**A smoke test: these numbers mean nothing.**"] if quick else []
    computer = (
        f"{machine['cpu']} ({torch.backends.cpu.get_cpu_capability()}), {machine['cores']} cores, "
        f"{torch.get_num_threads()} torch threads, {machine['platform']}, no GPU used"
    )
    facts = [
        f"- date: {datetime.now(UTC):%Y-%m-%d}, {minutes:.0f} minutes",
        f"- machine: {computer}",
        f"- images: {'real' if os.environ.get('DOSIMETER_DATA') else 'phantoms'}",
        f"- versions: {versions}",
    ]
    return "\n\n".join(["# Benchmarks", "Made by `make bench`; do not edit.", *warning, "\n".join(facts)])


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    main()
