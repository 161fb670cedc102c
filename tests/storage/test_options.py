"""Storage options that nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest

from hangarlake.errors import StorageError
from hangarlake.storage import FsspecStore, open_store
from hangarlake.storage.options import check_options


@pytest.mark.parametrize("engine", [{}, {"engine": "fsspec"}, {"engine": "obstore"}])
@pytest.mark.parametrize(
    "url, name, remedy",
    [
        ("s3://bucket", "endpont_url", r"s3://; did you mean 'endpoint_url'\?"),
        ("s3a://bucket", "Secret", r"s3a://; did you mean 'secret'\?"),
        ("s3://bucket", "aws_access_key_id", r"s3://; did you mean 'key'\?"),
        ("gs://bucket", "tokn", r"gs://; did you mean 'token'\?"),
        ("az://bucket", "acount_key", r"az://; did you mean 'account_key'\?"),
        ("gs://bucket", "zzz", "gs://; known are access, anon, "),
    ],
)
def test_a_misspelt_option_is_named_with_what_was_meant(
    url: str, name: str, remedy: str, engine: dict[str, str]
) -> None:
    with pytest.raises(StorageError, match=f"^the storage option '{name}' is not known for {remedy}") as caught:
        open_store(url, {name: "hidden", **engine})
    assert "hidden" not in str(caught.value)


def test_options_of_the_client_are_looked_at_too() -> None:
    with pytest.raises(
        StorageError, match=r"'client_kwargs\.endpont_url'.*did you mean 'client_kwargs\.endpoint_url'\?"
    ):
        open_store("s3://bucket", {"client_kwargs": {"endpont_url": "http://x"}})


def test_places_without_options_ignore_those_of_others_and_refuse_what_nobody_knows(tmp_path: Path) -> None:
    known = {
        "endpoint_url": "http://x",
        "token": "t",
        "account_key": "k",
        "auto_mkdir": True,
        "engine": "obstore",
        "s3": {},
    }
    for place in (tmp_path, str(tmp_path), f"file://{tmp_path}", "memory://options"):
        open_store(place, known)
        with pytest.raises(StorageError, match=r"'endpont_url' is not known for .*; did you mean 'endpoint_url'"):
            open_store(place, {"endpont_url": "http://x"})


@pytest.mark.parametrize(
    "kind, options",
    [
        ("s3", {"anon": True, "session": None, "config_kwargs": {}, "client_kwargs": {"verify": False}, "loop": None}),
        ("gs", {"project": "p", "token": "anon", "requests_timeout": 3, "default_block_size": 5}),
        ("az", {"connection_string": "c", "credential": None, "use_listings_cache": False}),
    ],
)
def test_what_the_file_systems_take_is_known(kind: str, options: dict[str, Any]) -> None:
    check_options(options, kind, "it")


def test_what_a_later_file_system_takes_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(fsspec.AbstractFileSystem):
        def __init__(self, brand_new: int = 0, **more: Any) -> None:
            super().__init__(**more)

    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda _: Later)
    check_options({"brand_new": 1}, "s3", "s3://")
    with pytest.raises(StorageError, match="'brand_old'"):
        check_options({"brand_old": 1}, "s3", "s3://")


def test_other_file_systems_decide_for_themselves() -> None:
    assert isinstance(open_store("http://example.invalid/", {"client_kwargs": {"trust_env": True}}), FsspecStore)
