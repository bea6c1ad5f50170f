"""What a run was made with: versions, machine, memory."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import resource
import sys
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "pillow", "torchmetrics")


def environment(device: str, *, gpu: str = "") -> dict[str, str | int]:
    """Return the versions and the machine that numbers depend on; nothing that names a user or a host.

    Args:
        device: where networks ran.
        gpu: its name, if it is one.
    """
    return {
        "python": platform.python_version(),
        **_versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "device": device,
        **({"gpu": gpu} if gpu else {}),
    }


def peak_memory_mib() -> float:
    """Return the largest resident size this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


@functools.cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def digest_of(parts: list[str]) -> str:
    """Return a short digest of a list of strings."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
