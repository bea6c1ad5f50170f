"""Whether passes in training are computed in bfloat16: where this machine is measured to be faster with it."""

import time

from torch import Tensor

from dosimeter.defences.ascent import gradient_of
from dosimeter.defences.students import Student

MIN_TIMED_S = 0.05
"""A gradient of a batch that takes less is not worth another number format."""

MIN_GAIN = 1.3
"""How many times faster bfloat16 must be to be taken."""


def choose_precision(student: Student, images: Tensor) -> None:
    """Let a student compute in bfloat16 if a gradient of `images` is `MIN_GAIN` times faster than in float32.

    Each is timed twice, and the faster counts; where float32 takes less than `MIN_TIMED_S` it stays.
    """
    plain = min(_timed(student, images, bfloat16=False) for _ in range(2))
    if plain < MIN_TIMED_S:
        return
    rough = min(_timed(student, images, bfloat16=True) for _ in range(2))
    student.bfloat16 = plain > MIN_GAIN * rough


def _timed(student: Student, images: Tensor, *, bfloat16: bool) -> float:
    """Return the seconds that a gradient of images takes, of a CPU its own, and leave the student in float32."""
    clock = time.process_time if images.device.type == "cpu" else time.perf_counter  # what else runs does not count
    student.bfloat16 = bfloat16
    started = clock()
    float(gradient_of(lambda given: student(given).sum(), images).sum())  # a number: waits for a GPU
    student.bfloat16 = False
    return clock() - started
