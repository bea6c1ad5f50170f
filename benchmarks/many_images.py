"""A whole study of many phantoms with a small network: seconds, peak memory and the size of the report.

    python benchmarks/many_images.py 5000 50000

The network (two convolutions) stands in VGG16's place and the phantoms are drawn at 64 x 64, so that what is measured
is not the network but everything around it: reading, features, training, sweep, parts, merge, analyses, report. Each
size runs in a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

SIZE_PX = 64


def main() -> None:
    """Run each size in a fresh process and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", type=int, nargs="+", help="images of each study")
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        study(arguments.sizes[0], arguments.folder)
        return
    print(
        "| images | rows | seconds | peak memory, MiB | report, MB | table, MB |\n|---|---|---|---|---|---|", flush=True
    )
    with tempfile.TemporaryDirectory() as scratch:
        for size in arguments.sizes:
            folder = (arguments.folder or Path(scratch)) / str(size)
            command = [sys.executable, __file__, str(size), "--inside", "--folder", str(folder)]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def study(n_images: int, folder: Path) -> None:
    """Run one study and print its line of the table."""
    import os

    os.environ["DOSIMETER_CACHE"] = str(folder / "cache")
    install_small_network()
    from dosimeter.config import load_config
    from dosimeter.study import run_study

    started = time.perf_counter()
    outcome = run_study(
        load_config(
            cohort="phantom-ct",
            model="vgg16",
            limit=n_images,
            epochs=2,
            batch_size=64,
            engine="torch",
            out=folder / "run",
        )
    )
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import pyarrow.parquet as pq

    rows = pq.read_metadata(outcome.run.responses).num_rows
    report, table = (path.stat().st_size / 1e6 for path in (outcome.run.report, outcome.run.responses))
    print(f"| {n_images} | {rows} | {seconds:.0f} | {peak:.0f} | {report:.1f} | {table:.0f} |")


def install_small_network() -> None:
    """Put a network of two convolutions in VGG16's place, and draw phantoms of its size."""
    import torch
    from torch import nn

    import dosimeter.study
    from dosimeter.cohorts import phantom
    from dosimeter.models import backbones, fit, saved
    from dosimeter.models.preprocessing import PREPROCESSINGS
    from dosimeter.models.weights import Weights, digest

    def build() -> nn.Module:
        layers = OrderedDict(first=nn.Conv2d(3, 8, 5, stride=4), relu=nn.ReLU(), second=nn.Conv2d(8, 16, 3, stride=2))
        return nn.Sequential(layers)

    def weights(network: str, **_: object) -> Weights:
        generator = torch.Generator().manual_seed(0)
        shapes = {
            "first.weight": (8, 3, 5, 5),
            "first.bias": (8,),
            "second.weight": (16, 8, 3, 3),
            "second.bias": (16,),
        }
        state = {name: torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}
        preprocessing = PREPROCESSINGS["minus1to1"]
        return Weights(network, "small", "made here", "none", digest(state), state, preprocessing, True, "random")

    phantom.SIZE_PX = SIZE_PX
    head = backbones.HeadSpec(pool="none", hidden=8, dropout=0.0)
    backbones.BACKBONES["vgg16"] = backbones.Backbone("vgg16", SIZE_PX, (16, 7, 7), build, head, "small")
    for module in (fit, saved, dosimeter.study):
        module.load_weights = weights  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
