"""Joining a Ray cluster, or saying in one sentence why not."""

import logging
import os
import subprocess
import sys
from typing import Any

from dosimeter.errors import DosimeterError

ANSWER_S = 20.0
"""A cluster that has not answered for so long is out of reach."""

_PROBE = """
import logging, sys, ray
try:
    ray.init(sys.argv[1], logging_level=logging.CRITICAL, log_to_driver=False)
except Exception as error:
    print(" ".join(str(error.__cause__ or error).split()))
    sys.exit(1)
"""
"""Joins the cluster in a process of its own: where nothing answers, `ray.init` can be given no time limit."""


def join(ray: Any, address: str) -> None:
    """Join the cluster, silently and without usage statistics, or raise DosimeterError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    remedy = (
        "Start one with `ray start --head`, or give --address HOST:PORT of one that this machine is a node of; if it "
        "has a token, set RAY_AUTH_MODE=token."
    )
    try:
        command = [sys.executable, "-c", _PROBE, address]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
        if probe.returncode != 0:
            raise ConnectionError(probe.stdout.strip() or f"exit code {probe.returncode}")
        ray.init(address, logging_level=logging.CRITICAL, log_to_driver=False)
    except subprocess.TimeoutExpired:
        raise DosimeterError(f"no Ray cluster answered at '{address}' within {ANSWER_S:g} s. {remedy}") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise DosimeterError(f"the Ray cluster at '{address}' cannot be joined ({reason}). {remedy}") from error
    ray._private.worker._worker_logs_enabled = False  # the only switch of "(raylet) A worker died": we say so ourselves
