from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.evaluate import Difference, paired_difference
from finescale.evaluate.compare import student_t

scipy_stats = pytest.importorskip("scipy.stats")  # comes with scikit-image


def test_the_quantiles_are_students() -> None:
    for freedom in range(1, 31):
        assert student_t(freedom) == pytest.approx(scipy_stats.t.ppf(0.975, freedom), abs=6e-4)
    for freedom in range(31, 400):
        exact = scipy_stats.t.ppf(0.975, freedom)
        assert exact - 1e-3 <= student_t(freedom) <= 1.012 * exact


@given(st.lists(st.floats(20, 40), min_size=2, max_size=30), st.integers(0, 9))
def test_the_interval_is_students(values: list[float], seed: int) -> None:
    one = {str(index): value for index, value in enumerate(values)}
    other = {name: 30 + math.sin(seed + index) for index, name in enumerate(one)}
    found = paired_difference(one, other)
    assert found is not None
    differences = [one[name] - other[name] for name in one]
    test = scipy_stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high), rel=1e-3, abs=1e-2)
    assert found.mean == pytest.approx(sum(differences) / len(differences))


def test_only_pictures_that_both_have_a_finite_value_of_count() -> None:
    found = paired_difference({"a": 30.0, "b": math.inf, "c": 31.0}, {"a": 29.0, "b": 30.0, "d": 1.0})
    assert found == Difference(1.0, None, None, 1)
    assert paired_difference({"a": math.inf}, {"a": math.inf}) is None
    assert paired_difference({}, {"a": 1.0}) is None
