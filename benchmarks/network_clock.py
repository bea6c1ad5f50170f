"""How much of a program's time is spent in networks: everything else is what dosimeter adds."""

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.engines.base import TorchEngine
from dosimeter.engines.ncnn import NcnnEngine
from dosimeter.engines.winograd import WinogradEngine
from dosimeter.models import fit
from dosimeter.models.base import Classifier

PASSES: tuple[tuple[Any, str, str], ...] = (
    (FGSM, "direction", "gradients"),
    (Problem, "gradient", "gradients"),
    (TorchEngine, "logits", "answers"),
    (WinogradEngine, "logits", "answers"),
    (NcnnEngine, "logits", "answers"),
    (Classifier, "features", "features"),
    (fit, "train_head", "training"),
)
"""Where networks run: the owner of a function, its name, and what it is counted as."""


class NetworkClock:
    """Seconds in network passes, summed over threads, by kind: gradients, answers, features (also a
    classifier asked by itself), training.

    A pass inside a pass, such as the features inside an answer, is counted once, as the outer kind.
    """

    def __init__(self) -> None:
        self.by_kind: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._inside = threading.local()

    @property
    def seconds(self) -> float:
        """All kinds together."""
        return sum(self.by_kind.values())

    @contextmanager
    def running(self) -> Iterator["NetworkClock"]:
        """Count while the block runs."""
        with ExitStack() as patches:
            for owner, name, kind in PASSES:
                patches.enter_context(mock.patch.object(owner, name, self._counted(getattr(owner, name), kind)))
            yield self

    def _counted(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._inside, "a_pass", False):
                return function(*args, **kwargs)
            self._inside.a_pass = True
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside.a_pass = False
                with self._lock:
                    self.by_kind[kind] += time.perf_counter() - started

        return counted
