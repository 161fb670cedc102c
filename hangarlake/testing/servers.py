"""Servers on the loopback interface, to test stores over real HTTP.

`MotoServer` and `GcsEmulator` need the packages of the ``test`` dependency group, the stubs need Werkzeug.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import HTTPServer, SimpleHTTPRequestHandler
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote
from urllib.request import Request, urlopen
from xml.sax.saxutils import escape

from werkzeug.serving import make_server

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

__all__ = ["GcsEmulator", "GcsStub", "MotoServer", "S3Stub", "StaticServer"]

Environment = dict[str, Any]
StartResponse = Any

# Seconds after which a server notices that it has been stopped.
_POLL = 0.02


class _Server(ABC):
    """A server in a thread on a free port, from `start` (or ``with``) to `stop`."""

    def __init__(self) -> None:
        self._server: HTTPServer | None = None

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        assert self._server is not None, "the server has not been started"
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> Self:
        self._server = server = self._listen()
        threading.Thread(target=server.serve_forever, args=(_POLL,), daemon=True, name=type(self).__name__).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @abstractmethod
    def _listen(self) -> HTTPServer:
        """Return what listens on a free port."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _WsgiServer(_Server):
    """A WSGI application, served by threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def _listen(self) -> HTTPServer:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        return make_server("127.0.0.1", 0, self._serialised, threaded=True)

    def _serialised(self, environment: Environment, start: StartResponse) -> Iterable[bytes]:
        # One request at a time: between the check of a condition and the write there must be nothing.
        with self._lock:
            answer = self._answer(environment, start)
            try:
                return [b"".join(answer)]
            finally:
                close = getattr(answer, "close", None)
                if close is not None:
                    close()

    def _answer(self, environment: Environment, start: StartResponse) -> Iterable[bytes]:
        start("404 Not Found", [("Content-Length", "0")])
        return [b""] if environment else []


class MotoServer(_WsgiServer):
    """moto's S3, one request at a time: it checks a condition and writes in two steps."""

    key = "testing"
    secret = "testing-secret"

    def start(self) -> Self:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._application = DomainDispatcherApplication(create_backend_app)
        return super().start()

    @property
    def storage_options(self) -> dict[str, Any]:
        """What `open_store` needs to reach the server."""
        return {"key": self.key, "secret": self.secret, "endpoint_url": self.endpoint, "region_name": "us-east-1"}

    def create_bucket(self, name: str) -> None:
        urlopen(Request(f"{self.endpoint}/{name}", method="PUT")).close()

    def _answer(self, environment: Environment, start: StartResponse) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._application(environment, start)
        return answer


@dataclass
class _Seen:
    """One request to a stub."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str] = field(repr=False)


class _ObjectStub(_WsgiServer):
    """Objects in a dict, and faults on demand.

    Attributes
    ----------
    objects : dict[str, bytes]
        By path, without a leading slash.
    seen : list
        Every request: ``method``, ``path``, ``query``, ``headers`` (names in lower case).
    refuse : deque[int]
        Statuses that the next requests get instead of being done.
    lose : deque[int]
        Statuses that the next writes get after being done.
    ignore_conditions, ignore_ranges : bool
    """

    def __init__(self, *, ignore_conditions: bool = False, ignore_ranges: bool = False) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.seen: list[_Seen] = []
        self.refuse: deque[int] = deque()
        self.lose: deque[int] = deque()
        self.ignore_conditions = ignore_conditions
        self.ignore_ranges = ignore_ranges

    def _answer(self, environment: Environment, start: StartResponse) -> Iterable[bytes]:
        headers = {
            name[5:].replace("_", "-").lower(): str(value)
            for name, value in environment.items()
            if name.startswith("HTTP_")
        }
        path = unquote(str(environment.get("RAW_URI", environment["PATH_INFO"])).partition("?")[0]).lstrip("/")
        query = parse_qs(environment["QUERY_STRING"], keep_blank_values=True)
        seen = _Seen(environment["REQUEST_METHOD"], path, query, headers)
        self.seen.append(seen)
        body = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        more: dict[str, str] = {}
        if self.refuse:
            status, content = self.refuse.popleft(), b""
        else:
            status, more, content = self._handle(seen, body)
            if seen.method in ("PUT", "POST") and self.lose:
                status, more, content = self.lose.popleft(), {}, b""
        if status >= 400 and not content:
            content = self._error(status)
        start(f"{status} stub", [("Content-Length", str(len(content))), *more.items()])
        return [] if seen.method == "HEAD" else [content]

    def _handle(self, seen: _Seen, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 501, {}, f"{seen.method} of {len(body)} bytes".encode()

    def _error(self, status: int) -> bytes:
        code = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed", 503: "SlowDown", 500: "InternalError"}
        return f"<Error><Code>{code.get(status, 'Other')}</Code><Message>stub</Message></Error>".encode()

    def _read(self, path: str, asked: str | None) -> tuple[int, dict[str, str], bytes]:
        if path not in self.objects:
            return 404, {}, b""
        data = self.objects[path]
        about = {"ETag": '"0"', "Last-Modified": "Sun, 01 Nov 2026 12:00:00 GMT"}
        if asked is None or self.ignore_ranges:
            return 200, about, data
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last), len(data) - 1) if last else len(data) - 1
        if int(first) >= len(data):
            return 416, {}, b""
        return 206, {**about, "Content-Range": f"bytes {first}-{end}/{len(data)}"}, data[int(first) : end + 1]

    def _write(self, path: str, body: bytes, conditional: bool) -> tuple[int, dict[str, str], bytes]:
        if conditional and not self.ignore_conditions and path in self.objects:
            return 412, {}, b""
        self.objects[path] = body
        return 200, {"ETag": '"0"', "x-goog-generation": "1"}, b""


class S3Stub(_ObjectStub):
    """As much of S3 as objects by name need: GET, HEAD, PUT, DELETE; by default with conditions, if told so without."""

    @property
    def storage_options(self) -> dict[str, Any]:
        """What `open_store` needs to reach the server."""
        return {"key": "stub", "secret": "stub-secret", "endpoint_url": self.endpoint, "region_name": "us-east-1"}

    def _handle(self, seen: _Seen, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if seen.method in ("GET", "HEAD"):
            return self._read(seen.path, seen.headers.get("range"))
        if seen.method == "PUT":
            return self._write(seen.path, _unchunked(body, seen.headers), "if-none-match" in seen.headers)
        if seen.method == "DELETE":
            self.objects.pop(seen.path, None)
            return 204, {}, b""
        # The deletion of many, the only POST: nothing was deleted, nothing failed.
        return 200, {"Content-Type": "application/xml"}, b"<DeleteResult></DeleteResult>"


class GcsStub(_ObjectStub):
    """As much of GCS as objects by name need, of both its APIs (gcsfs speaks JSON, obstore XML).

    Attributes
    ----------
    conditions : list[str or None]
        Of every write, the generation that had to match.
    page : int
        Objects in one page of a listing.
    """

    page = 400

    def __init__(self, *, ignore_conditions: bool = False) -> None:
        super().__init__(ignore_conditions=ignore_conditions)
        self.conditions: list[str | None] = []

    def _handle(self, seen: _Seen, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path = seen.path
        if seen.method == "POST" and path.startswith("upload/storage/v1/b/"):
            bucket = path.split("/")[4]
            condition = seen.query.get("ifGenerationMatch", [None])[0]
            self.conditions.append(condition)
            name, content = _multipart(body)
            status, more, _ = self._write(f"{bucket}/{name}", content, condition == "0")
            about = json.dumps(_about(f"{bucket}/{name}", len(content))).encode()
            return status, more, about if status == 200 else b""
        if seen.method == "PUT":
            condition = seen.headers.get("x-goog-if-generation-match")
            self.conditions.append(condition)
            return self._write(path, body, condition == "0")
        if "storage/v1/b/" not in path:
            return self._handle_by_name(seen)
        bucket, _, name = path.removeprefix("download/").removeprefix("storage/v1/b/").partition("/o")
        if not name.strip("/"):
            return self._list_json(bucket, seen.query)
        place = f"{bucket}{name}"
        if seen.method == "DELETE":
            return (204, {}, b"") if self.objects.pop(place, None) is not None else (404, {}, b"")
        if place in self.objects and "media" not in seen.query.get("alt", []):
            return (
                200,
                {"Content-Type": "application/json"},
                json.dumps(_about(place, len(self.objects[place]))).encode(),
            )
        return self._read(place, seen.headers.get("range"))

    def _handle_by_name(self, seen: _Seen) -> tuple[int, dict[str, str], bytes]:
        """Answer a request of the XML API that reads, lists or deletes."""
        if "list-type" in seen.query:
            return self._list_xml(seen.path, seen.query)
        if seen.method == "DELETE":
            return (204, {}, b"") if self.objects.pop(seen.path, None) is not None else (404, {}, b"")
        return self._read(seen.path, seen.headers.get("range"))

    def _page(self, bucket: str, query: dict[str, list[str]], token: str) -> tuple[list[str], list[str], str | None]:
        """Return the names and the common prefixes of one page, and where the next one starts."""
        prefix, delimiter = (query.get(word, [""])[0] for word in ("prefix", "delimiter"))
        after = query.get(token, [""])[0]
        found = sorted(path.partition("/")[2] for path in self.objects if path.startswith(f"{bucket}/{prefix}"))
        entries: dict[str, bool] = {}
        for name in found:
            rest = name[len(prefix) :]
            folder = bool(delimiter) and delimiter in rest
            entries[prefix + rest.partition(delimiter)[0] + delimiter if folder else name] = folder
        names = [name for name in entries if name > after]
        page, more = names[: self.page], names[self.page :]
        return [n for n in page if not entries[n]], [n for n in page if entries[n]], page[-1] if more else None

    def _list_xml(self, bucket: str, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        names, folders, following = self._page(bucket.rstrip("/"), query, "continuation-token")
        rows = [
            f"<Contents><Key>{escape(name)}</Key><LastModified>{_now()}</LastModified><ETag>0</ETag>"
            f"<Size>{len(self.objects[bucket.rstrip('/') + '/' + name])}</Size></Contents>"
            for name in names
        ]
        rows += [f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders]
        if following is not None:
            rows.append(f"<NextContinuationToken>{escape(following)}</NextContinuationToken>")
        text = f"<ListBucketResult><Name>{bucket}</Name>{''.join(rows)}</ListBucketResult>"
        return 200, {"Content-Type": "application/xml"}, text.encode()

    def _list_json(self, bucket: str, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        names, folders, following = self._page(bucket, query, "pageToken")
        items = [_about(f"{bucket}/{name}", len(self.objects[f"{bucket}/{name}"])) for name in names]
        answer: dict[str, Any] = {"kind": "storage#objects", "items": items, "prefixes": folders}
        if following is not None:
            answer["nextPageToken"] = following
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


def _about(place: str, size: int) -> dict[str, str]:
    bucket, _, name = place.partition("/")
    return {"name": name, "bucket": bucket, "size": str(size), "generation": "1", "updated": _now()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class _Listener(HTTPServer):
    # The default of 5 waiting connections makes clients that open many wait for seconds.
    request_queue_size = 128


class _ThreadingListener(ThreadingMixIn, _Listener):
    daemon_threads = True


class GcsEmulator(_Server):
    """gcp-storage-emulator, one request at a time. It ignores conditions."""

    def _listen(self) -> HTTPServer:
        from gcp_storage_emulator.server import RequestHandler
        from gcp_storage_emulator.storage import Storage

        logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
        return _Listener(("127.0.0.1", 0), functools.partial(RequestHandler, Storage(use_memory_fs=True)))

    @property
    def storage_options(self) -> dict[str, Any]:
        """What `open_store` needs to reach the server."""
        return {"endpoint_url": self.endpoint, "token": "anon", "project": "testing"}

    def create_bucket(self, name: str) -> None:
        body = json.dumps({"name": name}).encode()
        headers = {"Content-Type": "application/json"}
        urlopen(Request(f"{self.endpoint}/storage/v1/b", data=body, headers=headers, method="POST")).close()


class StaticServer(_Server):
    """Files of a folder over HTTP, as ``python -m http.server`` gives them: without ranges, always in whole."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__()
        self._handler: Callable[..., SimpleHTTPRequestHandler] = functools.partial(_Quiet, directory=str(folder))

    @property
    def url(self) -> str:
        """The URL of the folder."""
        return self.endpoint

    def _listen(self) -> HTTPServer:
        return _ThreadingListener(("127.0.0.1", 0), self._handler)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _multipart(body: bytes) -> tuple[str, bytes]:
    """Return the name and the content of an upload of two parts: JSON, bytes."""
    boundary = body.split(b"\n", 1)[0].strip()
    first, second = body.removesuffix(b"--").removesuffix(boundary).split(boundary, 2)[1:]
    name = json.loads(first.split(b"\n\n", 1)[1])["name"]
    return name, second.split(b"\n\n", 1)[1].removesuffix(b"\n")


def _unchunked(body: bytes, headers: dict[str, str]) -> bytes:
    """Undo the framing of signed uploads (``aws-chunked``)."""
    if "aws-chunked" not in headers.get("content-encoding", ""):
        return body
    parts = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if length == 0:
            break
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts)
