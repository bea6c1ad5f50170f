"""`one_thread`: many small products of matrices, on one thread."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy and SciPy multiply on one thread while the block runs; also a decorator.

    Where products are small the threads of a BLAS wait for each other longer than they multiply, and burn a core each
    while they wait. On two cores that others used too, the data audit of 840 X-rays took 133 s of CPU time with a
    thread a core, and 31 s so; the results are the same. torch's threads are left alone.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
