"""Splits deal out every value once, by shares that need not sum to one, and are kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.core.errors import UserError
from lamella.data.frames_split import PARTS, Split
from tests.data.experiments import make_frames
from tests.data.test_frames import data

shares = st.floats(0.05, 10)


@given(num=st.integers(1, 60), seed=st.integers(0, 5), train=shares, validation=shares, test=shares)
def test_every_value_is_in_one_part_and_shares_are_kept(num, seed, train, validation, test):
    split = Split(train=train, validation=validation, test=test, seed=seed)
    values = [f"p{k:03d}" for k in range(num)]
    counts = split._counts(num)
    assert sum(counts.values()) == num
    assert all(abs(counts[part] - num * split.ratio(part)) < 1 for part in PARTS)
    if 0 in counts.values():
        with pytest.raises(UserError, match="leave nothing for"):
            split.settled(values)
    else:
        parts = split.settled(values).parts
        assert sorted(name for part in PARTS for name in parts[part]) == values
        assert {part: len(names) for part, names in parts.items()} == counts


@pytest.mark.parametrize(
    ("shares", "num", "counts"),
    [
        ((0.7, 0.2, 0.1), 10, (7, 2, 1)),  # which as floats do not sum to 1
        ((0.1, 0.1, 0.8), 30, (3, 3, 24)),
        ((70, 15, 15), 20, (14, 3, 3)),
        ((0.75, 0.25, 0), 4, (3, 1, 0)),
        ((1, 0, 0), 1, (1, 0, 0)),
    ],
)
def test_shares_are_counted_as_by_hand(shares, num, counts):
    parts = Split(train=shares[0], validation=shares[1], test=shares[2]).settled([str(k) for k in range(num)]).parts
    assert tuple(len(parts[part]) for part in PARTS) == counts


def test_another_seed_deals_otherwise_and_the_same_alike():
    values = [str(k) for k in range(20)]
    first, again, other = (Split(seed=seed).settled(values).parts for seed in (1, 1, 2))
    assert first == again != other


def test_a_split_is_taken_from_a_file_or_a_run(tmp_path):
    settled = Split(test=0.1).settled([str(k) for k in range(20)])
    (tmp_path / "split.json").write_text(json.dumps(settled.to_dict()))
    assert Split.model_validate(str(tmp_path / "split.json")) == settled
    assert Split.model_validate(str(tmp_path)) == settled
    with pytest.raises(UserError, match=r"cannot read .*none.json"):
        Split.model_validate(str(tmp_path / "none.json"))


@pytest.mark.parametrize("column", ["position", "time", "slice", "sample"])
def test_any_column_divides(tmp_path, column):
    folder = make_frames(tmp_path / "f", positions=3, times=3, slices=3)
    settled = data(folder, split={"column": column, "train": 0.6, "validation": 0.4}, length=None).settled()
    seen = {
        part: {stack.values[column][z] for stack in settled.stacks(part) for z in stack.planes}
        for part in ("train", "validation")
    }
    assert seen["train"] == set(settled.split.parts["train"])
    assert seen["validation"] == set(settled.split.parts["validation"])
    assert not seen["train"] & seen["validation"]
    assert len(settled.held_out(0)) == sum(len(s.planes) for s in settled.stacks("validation")) * 4


def test_a_column_of_the_table_divides(tmp_path):
    folder = make_frames(tmp_path / "f", positions=4, slices=1)
    lines = ["channel_idx,slice_idx,time_idx,pos_idx,channel_name,file_name,dir_name,donor"]
    lines += [f"{c},0,0,{p},,im_c{c:03d}_z000_t000_p{p:03d}.tif,.,{'ab'[p % 2]}" for p in range(4) for c in range(2)]
    (folder / "frames_meta.csv").write_text("\n".join(lines) + "\n")
    settled = data(folder, split={"column": "donor", "parts": {"train": ["a"], "validation": ["b"]}}).settled()
    assert [stack.position for stack in settled.stacks("train")] == ["p000", "p002"]
    assert [stack.position for stack in settled.stacks("validation")] == ["p001", "p003"]
