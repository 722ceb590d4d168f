import pytest

from lamella.train.phases import factor, phase_index
from lamella.train.task import Phase

LEVELS = Phase(train={"": 0.2, "aligners.3": 1.0, "aligners.3.last": 0.0})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("encoder.weight", 0.2), ("aligners.3.weight", 1.0), ("aligners.30.weight", 0.2), ("aligners.3.last.bias", 0.0)],
)
def test_the_longest_prefix_counts(name, expected):
    assert factor(LEVELS, name) == expected


def test_a_phase_lasts_until_the_next():
    phases = [Phase(0), Phase(10), Phase(11)]
    assert [phase_index(phases, step) for step in (0, 9, 10, 11, 99)] == [0, 0, 1, 2, 2]
