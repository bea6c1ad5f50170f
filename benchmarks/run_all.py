"""All benchmarks, one after the other, into `benchmarks/RESULTS.md`: `make bench`.

Each runs in a process of its own; one that fails is named, and the others go on. Without DOSIMETER_DATA the images are
phantoms. It takes about 40 minutes on 2 cores, which should have nothing else to do. With `--long` it is what takes
hours instead: more test images compared with torch, 50,000 images, a cluster; into `benchmarks/RESULTS-LONG.md`.

What each found is kept in a JSON file beside the page, so that `--only sweep` measures that one again and leaves the
others' sections as they are.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from targets import judge

from dosimeter.record.provenance import environment

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
    Benchmark("cluster", "On a cluster", ("--limit", "140"), ("--limit", "20", "--epochs", "1")),
    Benchmark(
        "scaling",
        "Whole studies of many images",
        ("--images", "500", "5000", "50000", "--threads", "1"),
        ("--images", "50", "60", "--threads", "1"),
    ),
    Benchmark(
        "labels",
        "The same answers as torch's",
        ("--limit", "120", "--test-images", "20"),
        ("--limit", "10", "--test-images", "1", "--model", "vgg16"),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted({benchmark.script for benchmark in (*BENCHMARKS, *LONG)}))
    parser.add_argument("--long", action="store_true", help="those that take hours")
    parser.add_argument("--quick", action="store_true", help="a smoke test: prints numbers that mean nothing")
    parser.add_argument(
        "--out", type=Path, help="default: RESULTS.md or RESULTS-LONG.md beside this file; the screen with --quick"
    )
    options = parser.parse_args()
    benchmarks, name = (LONG, "RESULTS-LONG.md") if options.long else (BENCHMARKS, "RESULTS.md")
    out = options.out or (None if options.quick else HERE / name)
    kept = out.with_suffix(".json") if out else None
    results = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.is_file() else {}
    failed = False
    for benchmark in benchmarks:
        if options.only and benchmark.script not in options.only:
            continue
        print(f"--- {benchmark.title}", file=sys.stderr, flush=True)
        result = run(benchmark.script, benchmark.quick if options.quick else benchmark.arguments)
        failed |= result["numbers"] is None
        results[benchmark.script] = result
        if out and kept:  # after each, so that an interrupted run leaves what it measured
            kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            out.write_text(page(benchmarks, results, options), encoding="utf-8")
    if out is None:
        print(page(benchmarks, results, options))
    else:
        print(f"written: {out}", file=sys.stderr)
    if failed:
        sys.exit(1)


def page(benchmarks: Sequence[Benchmark], results: Mapping[str, Any], options: argparse.Namespace) -> str:
    """Return the page of all that was measured."""
    numbers = {script: result["numbers"] for script, result in results.items() if result["numbers"] is not None}
    parts = ["# Benchmarks", "Made by `make bench`; do not edit."]
    parts += ["**A smoke test: these numbers mean nothing.**"] if options.quick else []
    parts += ["## Targets", judge(numbers, long=options.long)]
    for benchmark in benchmarks:
        if result := results.get(benchmark.script):
            parts += [f"## {benchmark.title}", f"`{result['command']}`", result["facts"], result["text"]]
    return "\n\n".join(parts) + "\n"


def run(script: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    """Return what a script prints and the numbers it writes (None if it fails), its command and where it ran."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "numbers.json"
        command = [sys.executable, str(HERE / f"{script}.py"), *arguments, "--json", str(file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        failed = done.returncode != 0
        return {
            "command": f"python benchmarks/{' '.join((f'{script}.py', *arguments))}",
            "facts": facts((time.perf_counter() - started) / 60),
            "text": f"It failed with exit code {done.returncode}." if failed else done.stdout.strip(),
            "numbers": None if failed else json.loads(file.read_text(encoding="utf-8")),
        }


def facts(minutes: float) -> str:
    """Return when and where a benchmark ran, in a line."""
    machine = environment("cpu")
    packages = {name: machine[name] for name in ("python", "torch", "numpy")} | _versions()
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    images = "real images" if os.environ.get("DOSIMETER_DATA") else "phantoms"
    threads = f"{machine['cores']} cores, {torch.get_num_threads()} torch threads"
    computer = f"{machine['cpu']} ({torch.backends.cpu.get_cpu_capability()}), {threads}, {machine['platform']}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {minutes:.0f} minutes; {computer}, no GPU used; {images}; {versions}."


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
