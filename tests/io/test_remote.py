"""Volumes behind servers of this machine."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.io import create_volume, describe, open_volume
from tests.io.cases import CASES, Case, box_of, create, meta_of, voxels
from tests.io.servers import S3, Google, files, serving, storage

REMOTE = [c for c in CASES if c.mips and c.dtype in ("uint8", "uint64") and c.axes in ("zyx", "czyx")]


@pytest.mark.parametrize("case", REMOTE, ids=str)
def test_volumes_are_read_over_http(case: Case, tmp_path: Path) -> None:
    array = voxels(case)
    for volume in create(case, tmp_path, mips=2):
        volume.write(volume.box, array[tuple(slice(n) for n in volume.box.shape)])
    with serving(files(tmp_path)) as address:
        url = f"{address}/{case.name}"
        volume = pickle.loads(pickle.dumps(open_volume(f"precomputed://{url}" if case.kind == "precomputed" else url)))
        assert (volume.box, volume.meta) == (box_of(case), meta_of(case))
        np.testing.assert_array_equal(volume.read(volume.box), array)
        assert [len(mips) for mips in describe(url).datasets.values()] == [2]
        with pytest.raises(UserError, match="holds no volume"):
            open_volume(f"{url}x")


@pytest.mark.parametrize("case", REMOTE, ids=str)
def test_volumes_are_written_to_and_read_from_s3(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    handler, objects = storage(S3)
    with serving(handler) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        path = f"s3://bucket/some/{case.name}"
        asked = {"box": box_of(case), "dtype": case.dtype, "meta": meta_of(case), "kind": case.kind}
        (volume,) = create_volume(path, **asked)
        volume.write(volume.box, voxels(case))
        again = open_volume(path)
        assert again.meta == meta_of(case)
        np.testing.assert_array_equal(again.read(again.box), voxels(case))
        assert all(key.startswith("some/") for key in objects)
        with pytest.raises(UserError, match="exists already"):
            create_volume(path, **asked)
        (replaced,) = create_volume(path, **asked, overwrite=True)
        assert not replaced.read(replaced.box).any()


def test_volumes_are_read_from_google(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[0]
    handler, objects = storage(Google)
    with serving(handler) as address:
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        monkeypatch.setenv("GCE_METADATA_ROOT", address.removeprefix("http://"))  # no search for credentials
        (volume,) = create_volume("gs://bucket/v.zarr", box=box_of(case), dtype=case.dtype, meta=meta_of(case))
        volume.write(volume.box, voxels(case))
        again = open_volume("gs://bucket/v.zarr")
        np.testing.assert_array_equal(again.read(again.box), voxels(case))
        assert "v.zarr/zarr.json" in objects


def test_server_that_is_not_there_is_an_error_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamella.io import place

    monkeypatch.setattr(place, "_RETRIES", {"max_retries": 1, "initial_delay": "10ms", "max_delay": "10ms"})
    monkeypatch.setattr(place, "_context", None)
    with pytest.raises(UserError, match=r"cannot reach http://127\.0\.0\.1:9/v\.zarr.*check the address"):
        open_volume("http://127.0.0.1:9/v.zarr")
