"""The ledger remembers what is done, tolerates a torn end, and knows its job."""

from __future__ import annotations

import pytest

from lamella.blockwise import Ledger
from lamella.core.errors import UserError

WHO = {"job": {"class": "Copy", "dtype": "uint8"}}


def done(path, count=1000):
    with Ledger(path, WHO, count) as book:
        return {i for i in range(count) if i in book}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "job.ledger"
    with Ledger(path, WHO, 1000) as book:
        for index in (5, 7, 123, 999):
            book.record(index)
    return path


def test_what_was_recorded_is_done_after_reopening(path):
    assert done(path) == {5, 7, 123, 999}
    with Ledger(path, WHO, 1000) as book:
        assert len(book) == 4
        assert list(book.pending())[:8] == [0, 1, 2, 3, 4, 6, 8, 9]


def test_wherever_the_file_is_cut_it_opens_and_goes_on(path):
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    for cut in range(head, len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert done(path) <= {5, 7, 123, 999}, cut  # "99" torn off "999" is no block
        with Ledger(path, WHO, 1000) as book:
            book.record(42)
        assert 42 in done(path)


def test_damage_costs_what_comes_after_it_and_nothing_else(path):
    with path.open("ab") as file:
        file.write(b"\0\0\0\0\n12\n")
    assert done(path) == {5, 7, 123, 999}
    assert path.read_bytes().endswith(b"\n999\n")  # and it is gone from the file


def test_nothing_recorded_is_lost_once_flushed(path):
    book = Ledger(path, WHO, 1000)
    book.record(8)
    book.flush()
    assert b"\n8\n" in path.read_bytes()
    book.close()


def test_another_job_is_refused_by_what_changed(path):
    with pytest.raises(UserError, match=r"job\.dtype was 'uint8', is 'float32'"):
        Ledger(path, {"job": {"class": "Copy", "dtype": "float32"}}, 1000)


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    with pytest.raises(UserError, match="not a ledger"):
        Ledger(path, WHO, 10)
    assert path.read_text() == "dear diary\n"


def test_one_job_is_not_run_twice_at_once(path):
    with Ledger(path, WHO, 1000), pytest.raises(UserError, match="another process"):
        Ledger(path, WHO, 1000)


def test_many_blocks_are_small_and_quick(tmp_path):
    path = tmp_path / "l"
    with Ledger(path, WHO, 20_000) as book:
        for index in range(20_000):
            book.record(index)
    assert path.stat().st_size < 140_000
    assert len(done(path, 20_000)) == 20_000
