"""The same study on this machine's cores and on a Ray cluster with as many: `python benchmarks/cluster.py`.

The cluster is a head and two worker nodes, all on this machine, with one core a worker node; logs are not gathered and
metrics are not collected, because here the daemons of three machines share the cores of one. A third run loses a whole
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pyarrow.parquet as pq
from as_markdown import table
from ray.cluster_utils import Cluster
from subjects import MODELS

from dosimeter.cache import cache_dir
from dosimeter.models.weights import load_weights

N_NODES = 2
COHORTS = ("phantom-ct", "phantom-xray")
NODE = {"object_store_memory": 512 << 20, "include_log_monitor": False}
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
    load_weights(options.model)  # so that they are in the cache
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
    with own_cache(scratch / "local"):
        began = time.perf_counter()
        finish(start(command, scratch / "local", OMP_NUM_THREADS=str(N_NODES)))
        studies = {"local": read(scratch / "local", time.perf_counter() - began)}
    n_parts = len(list((scratch / "local" / "parts").iterdir()))
    for name, loses_a_node in (("ray", False), ("ray, one of two nodes lost and replaced", True)):
        out = scratch / ("lossy" if loses_a_node else "whole")
        with own_cache(out), cluster_here() as (cluster, nodes):
            began = time.perf_counter()
            study = start([*command, "--executor", "ray", "--address", cluster.address], out)
            if loses_a_node:
                wait_for_parts(out / "parts", n_parts // 3, study)
                cluster.remove_node(nodes[-1], allow_graceful=False)
                add_node(cluster)
            finish(study)
            studies[name] = read(out, time.perf_counter() - began)
    return studies


@contextmanager
def cluster_here() -> Iterator[tuple[Cluster, list[Any]]]:
    """Give a cluster of a head without cores and the worker nodes."""
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": {"enable_metrics_collection": False}}
    cluster = Cluster(initialize_head=True, head_node_args=NODE | head)
    try:
        yield cluster, [add_node(cluster) for _ in range(N_NODES)]
    finally:
        cluster.shutdown()


def add_node(cluster: Cluster) -> Any:
    """Add a worker node with one core."""
    return cluster.add_node(num_cpus=1, **NODE)


@contextmanager
def own_cache(out: Path) -> Iterator[None]:
    """Give one study a cache folder that holds the weights and nothing else, or it would find another's features."""
    folder = out.with_suffix(".cache")
    shutil.copytree(cache_dir() / "weights", folder / "weights")
    with mock.patch.dict(os.environ, DOSIMETER_CACHE=str(folder), RAY_USAGE_STATS_ENABLED="0"):
        yield


def start(command: list[str], out: Path, **variables: str) -> "subprocess.Popen[bytes]":
    """Begin a study into `out`, in a folder that is empty: Ray puts the driver's on the workers' path."""
    cwd = out.with_suffix(".cwd")
    cwd.mkdir()
    return subprocess.Popen([*command, "--out", str(out)], cwd=cwd, env={**os.environ, **variables}, stdout=sys.stderr)


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
