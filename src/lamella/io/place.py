"""Places: where the keys of a volume live, on disk, behind a web server or in a bucket.

A place is written as a path or URL: ``data/x.ome.zarr``, ``file:///data/x.n5``, ``https://host/x.zarr``, ``s3://bucket/x.zarr``,
``gs://bucket/x``. A prefix may name the format: ``precomputed://gs://bucket/x``. Public buckets need no credentials; others are
found where the Google and Amazon command-line tools keep them. ``AWS_ENDPOINT_URL`` (or ``AWS_ENDPOINT_URL_S3``) names a server
that speaks S3 elsewhere.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import tensorstore as ts

from lamella.core.errors import UserError
from lamella.core.files import replacing

SCHEMES = ("file", "http", "https", "gs", "s3")
PREFIXES = {"precomputed": "precomputed", "zarr": "zarr", "zarr2": "zarr", "zarr3": "zarr", "n5": "n5"}

_CACHE_BYTES = 64 << 20  # decoded chunks and shard indices; tiles that overlap find them here
_RETRIES = {
    "max_retries": 5,
    "initial_delay": "200ms",
    "max_delay": "5s",
}  # the default waits for minutes on a wrong host


@dataclass(frozen=True)
class Place:
    """A folder-like location; ``prefix`` is the format that the user's URL named, empty if it named none."""

    url: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> Place:
        """Read a path or URL, refusing schemes that cannot be read."""
        url, prefix = os.fspath(text), ""
        scheme, sep, rest = url.partition("://")
        if sep and scheme in PREFIXES:
            url, prefix = rest, PREFIXES[scheme]
            scheme, sep, rest = url.partition("://")
        if sep and scheme not in SCHEMES:
            raise UserError(f"{text} starts with {scheme}://; use a plain path or one of {', '.join(SCHEMES)}")
        if scheme == "file" and sep:
            url = unquote(urlsplit(url).path)
        if not url.strip("/") and url != "/":
            raise UserError(f"path {os.fspath(text)!r} is empty; give a path or URL")
        return cls(url if url == "/" else url.rstrip("/"), prefix)

    @property
    def local(self) -> Path | None:
        """The path on this machine, None for a URL."""
        return None if "://" in self.url else Path(self.url)

    @property
    def name(self) -> str:
        path = self.url if self.local else urlsplit(self.url).path
        return posixpath.basename(path)

    def __truediv__(self, key: str) -> Place:
        if not key:
            return self
        if self.local:
            return Place(str(self.local / key), self.prefix)
        parts = urlsplit(self.url)
        return Place(urlunsplit(parts._replace(path=posixpath.join(parts.path or "/", key))), self.prefix)

    @property
    def kvstore(self) -> dict[str, Any]:
        """TensorStore's description of this folder."""
        if self.local:
            return {"driver": "file", "path": f"{self.local.resolve()}/"}  # TensorStore refuses paths that hold ".."
        parts = urlsplit(self.url)
        if parts.scheme in ("http", "https"):
            base = urlunsplit((parts.scheme, parts.netloc, "", parts.query, ""))
            return {"driver": "http", "base_url": base, "path": f"{parts.path}/"}
        path = parts.path.lstrip("/") + "/" if parts.path.strip("/") else ""
        if parts.scheme == "gs":
            return {"driver": "gcs", "bucket": parts.netloc, "path": path}
        return {"driver": "s3", "bucket": parts.netloc, "path": path, **_s3_options()}

    def read(self, key: str) -> bytes | None:
        """The bytes under ``key``, None if there are none."""
        if self.local:
            file = self.local / key
            try:
                return file.read_bytes() if file.is_file() else None
            except OSError as error:
                raise UserError(f"cannot read {file}: {error.strerror}") from None
        result = self._ask(lambda store: store.read(key))
        return bytes(result.value) if result.state == "value" else None

    def read_json(self, key: str) -> dict[str, Any] | None:
        """The JSON mapping under ``key``, None if there is none."""
        raw = self.read(key)
        if raw is None:
            return None
        try:
            value = json.loads(raw)
        except ValueError as error:
            if self.local is None:
                return None  # some web servers answer any address with a page
            raise UserError(f"{self.url}/{key} is not valid JSON ({error}); the volume's metadata is damaged") from None
        return value if isinstance(value, dict) else None

    def write_json(self, key: str, value: Mapping[str, Any]) -> None:
        """Store ``value`` under ``key`` in one step."""
        data = (json.dumps(value, indent=2) + "\n").encode()
        if self.local:
            with replacing(self.local / key) as beside:
                beside.write_bytes(data)
        else:
            self._ask(lambda store: store.write(key, data))

    def clear(self) -> None:
        """Remove every key below this place."""
        self._ask(lambda store: store.delete_range(ts.KvStore.KeyRange()))

    def _ask(self, request: Any) -> Any:
        try:
            store = ts.KvStore.open(self.kvstore, context=context()).result()
            return request(store).result()
        except Exception as error:  # TensorStore raises several kinds for what a server or a name refuses
            raise UserError(
                f"cannot reach {self.url}: {reason(error)}; check the address and the credentials"
            ) from None


_context: tuple[int, ts.Context] | None = None


def context() -> ts.Context:
    """TensorStore's cache and limits, shared by all volumes of this process."""
    global _context  # noqa: PLW0603 one cache per process
    if _context is None:
        spec: dict[str, Any] = {"cache_pool": {"total_bytes_limit": _CACHE_BYTES}}
        for name in ("http", "gcs", "s3"):
            spec[f"{name}_request_retries"] = _RETRIES
        _context = (os.getpid(), ts.Context(spec))
    if _context[0] != os.getpid():
        raise UserError(
            "a forked process cannot read zarr, N5 or precomputed volumes once its parent has: TensorStore's threads are not "
            "copied; start workers with the 'spawn' or 'forkserver' method"
        )
    return _context[1]


def reason(error: BaseException) -> str:
    """TensorStore's message without its list of source lines."""
    return str(error).split(" [source locations", 1)[0].split(" [tensorstore_spec", 1)[0].rstrip(". ")


def _s3_options() -> dict[str, Any]:
    """Server and credentials; without any of the latter the bucket is read as the public may."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ("us-east-1" if endpoint else "")
    options: dict[str, Any] = {}
    if endpoint:
        options["endpoint"] = endpoint.rstrip("/")
    if region:
        options["aws_region"] = region
    if not _has_aws_credentials():
        options["aws_credentials"] = {"type": "anonymous"}
    return options


_AWS_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def _has_aws_credentials() -> bool:
    """Whether there is anything to look for; without, Amazon's library waits for a server and complains at length."""
    vendor = Path("/sys/devices/virtual/dmi/id/sys_vendor")  # on Amazon's machines, a role gives credentials
    files = (Path.home() / ".aws" / "credentials", Path.home() / ".aws" / "config")
    return (
        any(os.environ.get(v) for v in _AWS_VARIABLES)
        or any(f.is_file() for f in files)
        or (vendor.is_file() and vendor.read_text().startswith("Amazon"))
    )
