"""Servers that options and variables name, and those that cannot be reached."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from s3fs import S3FileSystem

import hangarlake as hl
from hangarlake.errors import StorageError
from hangarlake.storage import ObjectStore, obstore_store, open_store
from hangarlake.storage.endpoints import Endpoint, describe_unreachable, find_endpoint
from hangarlake.testing import CountingStore
from hangarlake.testing.servers import S3Stub

KEYS = {"key": "k", "secret": "hidden", "region_name": "us-east-1"}
ENGINES = ["fsspec", "obstore"]


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the clients do about a fault that lasts is no matter here."""
    monkeypatch.setattr(obstore_store, "_RETRIES", {"max_retries": 0})
    monkeypatch.setattr(S3FileSystem, "retries", 1)


@pytest.fixture
def closed() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _open(engine: str, **options: Any) -> ObjectStore:
    more = {"config_kwargs": {"retries": {"max_attempts": 0}}} if engine == "fsspec" else {}
    return open_store("s3://lab/wx", {**KEYS, **more, "engine": engine, **options})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "source, options, variables",
    [
        ("endpoint_url", {"endpoint_url": "127.0.0.1:5671"}, {}),
        (r"client_kwargs\['endpoint_url'\]", {"client_kwargs": {"endpoint_url": "127.0.0.1:5671"}}, {}),
        ("AWS_ENDPOINT_URL", {}, {"AWS_ENDPOINT_URL": "127.0.0.1:5671"}),
        ("AWS_ENDPOINT_URL_S3", {}, {"AWS_ENDPOINT_URL_S3": "127.0.0.1:5671", "AWS_ENDPOINT_URL": "http://good"}),
    ],
)
def test_an_endpoint_without_a_scheme_is_named_with_its_source(
    engine: str, source: str, options: dict[str, Any], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    expected = (
        rf"^{source} '127\.0\.0\.1:5671' has no scheme; write http://127\.0\.0\.1:5671 or https://127\.0\.0\.1:5671$"
    )
    with pytest.raises(StorageError, match=expected):
        _open(engine, **options)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://my host",
        "http://host\n",
        "http://[::1",
        "https://:9000",
        5,
    ],
)
def test_what_is_not_the_url_of_a_server_is_refused(address: Any) -> None:
    for kind in ("s3", "gs", "az"):
        with pytest.raises(
            StorageError, match=r"^endpoint_url '.*' is not the URL of a server; write http://HOST:PORT"
        ):
            find_endpoint(kind, {"endpoint_url": address})


def test_half_a_scheme_is_not_repeated() -> None:
    with pytest.raises(StorageError, match=r"'http:/host:1' has no scheme; write http://host:1 or"):
        find_endpoint("s3", {"endpoint_url": "http:/host:1"})


def test_credentials_in_an_endpoint_are_not_shown() -> None:
    with pytest.raises(StorageError) as caught:
        find_endpoint("s3", {"endpoint_url": "ftp://me:hidden@host"})
    assert "hidden" not in str(caught.value)
    store = _open("obstore", endpoint_url="http://me:hidden@host")
    assert store.place == "s3://lab/wx (at http://host)"


@pytest.mark.parametrize(
    "kind, options, variables, expected",
    [
        ("s3", {}, {}, None),
        ("s3", {"endpoint_url": "http://a"}, {"AWS_ENDPOINT_URL": "http://b"}, Endpoint("http://a", "endpoint_url")),
        ("gs", {}, {"AWS_ENDPOINT_URL": "http://b"}, None),
        ("gs", {}, {"STORAGE_EMULATOR_HOST": "localhost:1"}, Endpoint("http://localhost:1", "STORAGE_EMULATOR_HOST")),
        ("az", {"account_host": "a.b.net"}, {}, Endpoint("https://a.b.net", "account_host")),
    ],
)
def test_where_an_endpoint_comes_from(
    kind: str,
    options: dict[str, Any],
    variables: dict[str, str],
    expected: Endpoint | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_endpoint(kind, options) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_that_does_not_run_is_named_with_who_named_it(
    engine: str, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{closed}")
    store = _open(engine)
    expected = rf"in s3://lab/wx: cannot reach http://{closed} \(connection refused\), which AWS_ENDPOINT_URL names; is the server running"
    for call in (lambda: store.get("a"), lambda: store.put_new("a", b""), lambda: list(store.list("refs/"))):
        with pytest.raises(StorageError, match=expected):
            call()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_host_that_is_not_known_is_told_from_a_closed_port(engine: str) -> None:
    store = _open(engine, endpoint_url="http://no-such-host.invalid:9000")
    with pytest.raises(
        StorageError, match=r"reach http://no-such-host.invalid:9000 \(unknown host\), which endpoint_url names"
    ):
        store.get("a")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_without_tls_is_told_from_one_that_does_not_run(engine: str) -> None:
    with S3Stub() as stub:
        store = _open(engine, endpoint_url=stub.endpoint.replace("http:", "https:"))
        with pytest.raises(StorageError, match=r"\(it does not speak TLS\), .*begin with http://\?"):
            store.get("a")


def test_a_website_that_does_not_run_is_named(closed: str) -> None:
    with pytest.raises(
        StorageError, match=rf"cannot reach http://{closed} \(connection refused\); is the server running"
    ):
        open_store(f"http://{closed}/repo").get("a")


def test_what_clients_say_in_other_words() -> None:
    for details, cause in (
        ("kind: Connect, InvalidCertificate(UnknownIssuer)", "its certificate is not trusted"),
        ("kind: Connect, source: TimedOut", "no answer in time"),
        ("something new", "the connection failed"),
    ):
        told = describe_unreachable(None, "https://s3.example.org/bucket/key?token=hidden", details)
        assert told.startswith(f"cannot reach https://s3.example.org ({cause}); is the address right")


def test_a_place_without_a_repository_is_named_with_its_server() -> None:
    with S3Stub() as stub:
        for engine in ENGINES:
            options = {**stub.storage_options, "engine": engine}
            expected = rf"no repository at s3://bucket/repo \(at {stub.endpoint}\)"
            with pytest.raises(hl.RepositoryNotFoundError, match=expected):
                hl.Repository.open("s3://bucket/repo", storage_options=options)
            with pytest.raises(hl.RepositoryNotFoundError, match=expected):
                hl.Repository.clone("s3://bucket/repo", "memory://clone", source_options=options)
            wrapped = CountingStore(open_store("s3://bucket/repo", options))
            assert wrapped.place == f"s3://bucket/repo (at {stub.endpoint})"
    assert open_store("s3://bucket/repo", {**KEYS, "region": "r"}).place == "s3://bucket/repo"


def test_a_crash_of_the_client_is_an_error_of_ours() -> None:
    with S3Stub() as stub:
        # A line break makes a header that Rust's client cannot build, and does not expect.
        store = open_store("s3://bucket/repo", {**stub.storage_options, "key": "key\nbreak", "engine": "obstore"})
        for call in (
            lambda: store.get("a"),
            lambda: store.get_range("a", 0, 1),
            lambda: store.put_new("a", b""),
            lambda: store.delete(["a"]),
            lambda: list(store.list("")),
        ):
            with pytest.raises(StorageError, match=r"in s3://bucket/repo: the client crashed \(.*\)\. Check"):
                call()
        assert stub.seen == []
