"""Run `interval_coverage`: how often the report's intervals hold the truth. `python benchmarks/coverage.py --help`."""

if __name__ != "__main__":
    # Scripts of this folder see it before the package of the same name, which numba looks for, and does without.
    raise ImportError("benchmarks/coverage.py is a script; the functions are in interval_coverage")

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, as the page says; small matrices are slower on several

from interval_coverage import main

main()
