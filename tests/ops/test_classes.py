"""Classes follow from labels as they are told; what is unknown is of none."""

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.ops.classes import NONE, Boundary, Foreground, Values

LABELS = np.array([[0, 0, 3, 3, 3, 3, 5, 5, 5, 5, 0]])


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (Foreground(), [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
        (Boundary(), [0, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2]),
        (Values(values=(5, 0)), [1, 1, -1, -1, -1, -1, 0, 0, 0, 0, 1]),
    ],
    ids=lambda c: getattr(c, "kind", ""),
)
def test_classes_of_a_row(classes, expected):
    np.testing.assert_array_equal(classes(LABELS), [expected])
    assert len(classes.names) > max(expected)
    known = np.arange(11)[None] < 8
    told = classes(LABELS, known)
    assert (told[~known] == NONE).all()
    np.testing.assert_array_equal(told[:, :7], [expected[:7]])  # nothing is said to end where knowledge does


def test_a_value_names_one_class():
    with pytest.raises(UserError, match="name one value twice"):
        Values.load({"values": [0, 0]})
