"""The same study on this machine's cores and on a Ray cluster with as many: `python benchmarks/cluster.py`.

The cluster is a head and two worker nodes, all on this machine, with one core a worker node. A third run loses a whole
node in the middle of its sweep. Each study is a command of its own with a cache of its own, so its seconds are those
that a user waits. For the 10 minutes that the target speaks of, give --limit 300 or so.
"""

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from markdown import table
from ray.cluster_utils import Cluster
from subjects import MODELS
from timing import timed

from dosimeter.cache import cache_dir

N_NODES = 2
COHORTS = ("phantom-ct", "phantom-xray")
STORE_BYTES = 512 << 20
TIMES_AND_NAMES = ["duration_s", "run_id"]
"""What two runs of one study may differ in."""


class Study(NamedTuple):
    """A finished study.

    Attributes:
        rows: how often each row occurs.
        tables: the bytes of each file in tables/.
    """

    seconds: float
    rows: Counter[str]
    tables: dict[str, bytes]


def main() -> None:
    """Run the study three times and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="vgg16")
    parser.add_argument("--limit", type=int, default=60, help="images of each of two cohorts, a fifth of them attacked")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.ERROR)
    command = [sys.executable, "-m", "dosimeter", "study", "--model", options.model, "--limit", str(options.limit)]
    command += ["--epochs", str(options.epochs), "--engine", options.engine, "--device", "cpu"]
    command += [argument for cohort in COHORTS for argument in ("--cohort", cohort)]
    with tempfile.TemporaryDirectory() as scratch:
        studies = run_all(command, Path(scratch))
    numbers = {name: compare(studies["local"], study) for name, study in studies.items()}
    print(
        f"{options.model}, {options.engine} engine, {options.limit} images of each of {len(COHORTS)} phantom cohorts, "
        f"{N_NODES} cores, {sum(studies['local'].rows.values())} rows.\n"
    )
    header = ["study", "seconds", "over local, %", "rows lost", "rows doubled", "tables that differ"]
    print(table(header, [[name, *line(each)] for name, each in numbers.items()]))
    if options.json:
        options.json.write_text(json.dumps(numbers))


def run_all(command: list[str], scratch: Path) -> dict[str, Study]:
    """Run the study locally, on a cluster, and on a cluster that loses a node."""
    local = scratch / "local"
    seconds = timed(lambda: finish(start(command, local, {"OMP_NUM_THREADS": str(N_NODES)}))).seconds
    studies = {"local": read(local, seconds)}
    n_parts = len(list((local / "parts").iterdir()))
    for name, loses_a_node in (("ray", False), ("ray, one of two nodes lost and replaced", True)):
        out = scratch / ("lossy" if loses_a_node else "whole")
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "DOSIMETER_CACHE": str(own_cache(out))}  # the workers' too
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes = [cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES) for _ in range(N_NODES)]
            started = time.perf_counter()
            study = start([*command, "--executor", "ray", "--address", cluster.address], out, {})
            if loses_a_node:
                wait_for_parts(out / "parts", n_parts // 3, study)
                cluster.remove_node(nodes[-1], allow_graceful=False)
                cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            finish(study)
            studies[name] = read(out, time.perf_counter() - started)
        finally:
            cluster.shutdown()
            del os.environ["DOSIMETER_CACHE"]
    return studies


def start(command: list[str], out: Path, variables: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Begin a study into `out`, from a folder that holds nothing which Ray would put on the workers' path."""
    cwd = out.parent / "cwd"
    cwd.mkdir(exist_ok=True)
    environment = {**os.environ, "DOSIMETER_CACHE": str(own_cache(out)), **variables}
    return subprocess.Popen([*command, "--out", str(out)], cwd=cwd, env=environment, stdout=sys.stderr)


def own_cache(out: Path) -> Path:
    """Return a cache folder for one study that holds the weights and nothing else, or studies would share features."""
    folder = out.with_suffix(".cache")
    weights = Path(os.environ.get("DOSIMETER_BENCH_CACHE", cache_dir())) / "weights"
    if not folder.exists() and weights.is_dir():
        shutil.copytree(weights, folder / "weights")
    return folder


def finish(study: "subprocess.Popen[bytes]") -> None:
    """Wait for a study; one that fails ends the benchmark."""
    if study.wait() != 0:
        sys.exit(f"the study failed with exit code {study.returncode}")


def wait_for_parts(folder: Path, n_parts: int, study: "subprocess.Popen[bytes]") -> None:
    """Wait until the sweep has written so many parts."""
    while study.poll() is None and (not folder.is_dir() or len(list(folder.glob("*.parquet"))) < n_parts):
        time.sleep(0.2)


def read(out: Path, seconds: float) -> Study:
    """Return what a study found."""
    rows = pq.read_table(out / "responses.parquet").drop_columns(TIMES_AND_NAMES).to_pylist()
    tables = {path.name: path.read_bytes() for path in sorted((out / "tables").iterdir())}
    return Study(seconds, Counter(json.dumps(row, sort_keys=True) for row in rows), tables)


def compare(reference: Study, study: Study) -> dict[str, Any]:
    """Return how a study differs from the reference; numbers are compared by all their digits."""
    names = reference.tables.keys() | study.tables.keys()
    return {
        "seconds": study.seconds,
        "overhead": study.seconds / reference.seconds - 1,
        "lost": (reference.rows - study.rows).total(),
        "doubled": (study.rows - reference.rows).total(),
        "tables": sum(reference.tables.get(name) != study.tables.get(name) for name in names),
    }


def line(numbers: dict[str, Any]) -> list[str]:
    """Return one study's cells of the table."""
    seconds, overhead = f"{numbers['seconds']:.1f}", f"{100 * numbers['overhead']:+.1f}"
    return [seconds, overhead, str(numbers["lost"]), str(numbers["doubled"]), str(numbers["tables"])]


if __name__ == "__main__":
    main()
