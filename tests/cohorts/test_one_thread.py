"""The data audit multiplies on one thread, and gives the threads back."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dosimeter.cohorts import near_duplicates as module
from dosimeter.cohorts.arrays import cohort_of
from dosimeter.cohorts.auditing.base import audit_cohort
from dosimeter.cohorts.one_thread import one_thread


def threads() -> set[int]:
    found = {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
    assert found  # numpy's at least
    return found


def test_one_thread_within_and_as_many_as_before_after() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        with one_thread():
            assert threads() == {1}
        assert threads() == before
        with pytest.raises(ZeroDivisionError), one_thread():
            _ = 1 / 0
        assert threads() == before


def test_the_audit_of_images_is_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    alike = module._alike
    monkeypatch.setattr(module, "_alike", lambda looks: (seen.append(threads()), alike(looks))[1])
    images = np.random.default_rng(0).random((6, 20, 20), dtype=np.float32)
    with threadpool_limits(limits=2, user_api="blas"):
        audit_cohort(cohort_of(images, [0, 1] * 3, ["a", "b"]))
    assert seen == [{1}]
