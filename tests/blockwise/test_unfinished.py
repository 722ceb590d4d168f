"""A part is told from a finished output, and goes on only under the plan that began it."""

from __future__ import annotations

import pytest

from lamella.blockwise import Unfinished
from lamella.core.errors import UserError

PLAN = {"source": "a.zarr", "mips": 3}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.zarr"


def begin(output, plan=PLAN, **options):
    return Unfinished.begin(output, plan, exists=output.exists(), **options)


def create(output, plan=PLAN, **options):
    part = begin(output, plan, **options)
    with part.creating():
        output.write_text("part")
    return part


def test_a_part_goes_on_under_the_same_plan(output):
    ledger = create(output).ledger("mip0")
    ledger.write_text("so far")
    again = begin(output)
    assert again.created
    assert again.ledger("mip0").read_text() == "so far"


def test_a_part_refuses_another_plan_and_names_the_difference(output):
    create(output)
    with pytest.raises(UserError, match="mips was 3, is 4"):
        begin(output, {**PLAN, "mips": 4})


def test_a_finished_output_is_refused(output):
    create(output).finish()
    assert list(output.parent.iterdir()) == [output]
    with pytest.raises(UserError, match="exists already"):
        begin(output)


def test_an_output_killed_while_it_was_created_is_created_anew(output):
    begin(output)
    assert not begin(output).created


def test_overwrite_begins_anew_but_goes_on_with_its_own_part(output):
    create(output).finish()
    part = create(output, overwrite=True)
    part.ledger("mip0").write_text("so far")
    assert begin(output, overwrite=True).ledger("mip0").exists()
    assert not begin(output, {**PLAN, "mips": 4}, overwrite=True).ledger("mip0").exists()


def test_a_creation_that_fails_leaves_nothing(output):
    part = begin(output)
    with pytest.raises(UserError), part.creating():
        raise UserError("this format holds no mips")
    assert not any(output.parent.iterdir())


def test_killed_while_finishing_is_finished(output):
    part = create(output)
    part.ledger("mip0").write_text("all")
    (part.folder / "plan.json").unlink()
    with pytest.raises(UserError, match="exists already"):
        begin(output)
    assert list(output.parent.iterdir()) == [output]


def test_a_part_that_was_removed_is_begun_anew(output):
    create(output).ledger("mip0").write_text("so far")
    output.unlink()
    assert not begin(output).created
    assert not begin(output).ledger("mip0").exists()


def test_what_is_kept_for_a_bucket_lies_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    part = Unfinished.begin("gs://bucket/out.zarr", PLAN, exists=False)
    assert part.folder.is_relative_to(tmp_path)
    part.finish()
