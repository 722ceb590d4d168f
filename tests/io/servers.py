"""Small servers on this machine: one for files, one that speaks enough of S3 and one of Google's storage to keep objects."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class _Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client to confirm the one before
    wbufsize = 1 << 16

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


class Files(http.server.SimpleHTTPRequestHandler):
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class S3(_Quiet):
    """GET, HEAD, PUT, DELETE and listing of the objects of one bucket, addressed by path."""

    objects: dict[str, bytes]

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            prefix = query.get("prefix", [""])[0]
            keys = "".join(
                f"<Contents><Key>{k}</Key><Size>{len(v)}</Size></Contents>"
                for k, v in self.objects.items()
                if k.startswith(prefix)
            )
            self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>".encode())
        elif self._key() in self.objects:
            data = self.objects[self._key()]
            self.answer(200, data, ETag=f'"{hashlib.md5(data).hexdigest()}"', Last_Modified=formatdate(usegmt=True))
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        data = self.body()
        self.objects[self._key()] = data
        self.answer(200, ETag=f'"{hashlib.md5(data).hexdigest()}"')

    def do_DELETE(self) -> None:
        self.objects.pop(self._key(), None)
        self.answer(204)


class Google(_Quiet):
    """Download and upload of objects."""

    objects: dict[str, bytes]

    def _facts(self, key: str) -> bytes:
        data = self.objects[key]
        stamp = str(int.from_bytes(hashlib.md5(data).digest()[:6], "big"))
        return json.dumps(
            {
                "name": key,
                "generation": stamp,
                "size": len(data),
                "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
            }
        ).encode()

    def do_GET(self) -> None:
        key = unquote(urlsplit(self.path).path.rpartition("/o/")[2])
        if key not in self.objects:
            self.answer(404, b"{}")
            return
        self.answer(200, self.objects[key], x_goog_generation=json.loads(self._facts(key))["generation"])

    def do_POST(self) -> None:
        key = parse_qs(urlsplit(self.path).query)["name"][0]
        self.objects[key] = self.body()
        self.answer(200, self._facts(key))


@contextmanager
def serving(handler: object) -> Iterator[str]:
    """The address of a server that runs while the block does."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def files(folder: Path) -> object:
    return partial(Files, directory=str(folder))


def storage(kind: type[_Quiet]) -> tuple[type[_Quiet], dict[str, bytes]]:
    """A handler class of its own, and the objects that it keeps."""
    objects: dict[str, bytes] = {}
    return type("Storage", (kind,), {"objects": objects}), objects
