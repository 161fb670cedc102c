"""What a URL and `storage_options` of a cloud mean to obstore, and to the file systems of fsspec."""

from __future__ import annotations

import functools
import http.client
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from hangarlake.errors import StorageError
from hangarlake.storage.endpoints import Endpoint, find_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROTOCOLS", "CloudTarget", "for_fsspec", "split_bucket_url", "translate"]

PROTOCOLS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
}
_AWS = "https://s3.amazonaws.com"
_DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True)
class CloudTarget:
    """What obstore needs to open a folder of a bucket.

    Attributes
    ----------
    kind : str
        ``"s3"``, ``"gs"`` or ``"az"``.
    bucket, prefix : str
    config, client : dict
        Configuration of the store and of its HTTP client.
    profile : str or None
        Where AWS credentials come from: ``None``, `config` or the environment; ``""``, wherever the AWS tools find some; else that
        profile of their configuration files.
    endpoint : Endpoint or None
        The server, if it is not the cloud's own. `config` has its address; this also tells who named it.
    """

    kind: str
    bucket: str
    prefix: str
    config: dict[str, Any] = field(repr=False)
    client: dict[str, Any] = field(repr=False)
    profile: str | None = None
    endpoint: Endpoint | None = field(default=None, compare=False)


def split_bucket_url(url: str) -> tuple[str, str, str, str]:
    """Split a URL into its kind (``s3``, ``gs`` or ``az``), bucket, path and Azure account.

    Raises
    ------
    StorageError
        It names no bucket.
    """
    protocol, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    account = ""
    if PROTOCOLS[protocol] == "az" and "@" in bucket:
        bucket, _, host = bucket.partition("@")
        account = host.partition(".")[0]
    if not bucket:
        raise StorageError(f"{url} names no bucket. Write {protocol}://BUCKET/PATH.")
    return PROTOCOLS[protocol], bucket, path.strip("/"), account


def translate(url: str, options: Mapping[str, Any]) -> CloudTarget | None:
    """Return how obstore opens `url`, or ``None`` if `options` mean something that only fsspec understands.

    Raises
    ------
    StorageError
        The URL names no bucket, or the options or the environment an endpoint that is none.
    """
    kind, bucket, prefix, account = split_bucket_url(url)
    rest = {name: value for name, value in options.items() if value is not None}
    endpoint = find_endpoint(kind, rest)
    if kind == "s3":
        return _translate_s3(bucket, prefix, rest, endpoint)
    if kind == "gs":
        return _translate_gs(bucket, prefix, rest, endpoint)
    return _translate_az(bucket, prefix, account, rest, endpoint)


def for_fsspec(url: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return `url` and `options` as the file systems of fsspec want them."""
    translated = dict(options)
    if url.startswith(("gs://", "gcs://")) and translated.pop("anon", False):
        translated["token"] = "anon"
    if url.startswith(("s3://", "s3a://")):
        for name in ("region", "region_name"):
            if (region := translated.pop(name, None)) is not None:
                client = dict(translated.get("client_kwargs", {}))
                translated["client_kwargs"] = {"region_name": region, **client}
    return url, translated


def _translate_s3(bucket: str, prefix: str, rest: dict[str, Any], endpoint: Endpoint | None) -> CloudTarget | None:
    client_kwargs = dict(rest.pop("client_kwargs", {}))
    config_kwargs = dict(rest.pop("config_kwargs", {}))
    config: dict[str, Any] = {}
    client: dict[str, Any] = {}
    _move(rest, config, key="access_key_id", username="access_key_id", secret="secret_access_key")
    _move(rest, config, password="secret_access_key", token="session_token", anon="skip_signature")
    _move(rest, config, requester_pays="request_payer", region="region", region_name="region")
    _move(client_kwargs, config, region_name="region", aws_access_key_id="access_key_id")
    _move(client_kwargs, config, aws_secret_access_key="secret_access_key", aws_session_token="session_token")
    rest.pop("endpoint_url", None)
    client_kwargs.pop("endpoint_url", None)
    verify = client_kwargs.pop("verify", True)
    if not isinstance(verify, bool):
        return None  # a file of certificates
    if not verify:
        client["allow_invalid_certificates"] = True
    s3_config = dict(config_kwargs.pop("s3", {}))
    if s3_config.pop("addressing_style", "path") == "virtual":
        config["virtual_hosted_style_request"] = True
    if config_kwargs.get("signature_version") == "s3v4":
        del config_kwargs["signature_version"]
    profile = rest.pop("profile", None)
    for harmless in ("use_ssl", "use_listings_cache", "skip_instance_cache", "default_block_size", "max_concurrency"):
        rest.pop(harmless, None)
    if rest or client_kwargs or config_kwargs or s3_config:
        return None
    if endpoint is not None:
        config["endpoint"] = endpoint.address
        client["allow_http"] = endpoint.address.startswith("http://")
    if "region" not in config and not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        config["region"] = _DEFAULT_REGION if endpoint else _bucket_region(bucket)
    if "access_key_id" in config or config.get("skip_signature"):
        profile = None
    elif profile is None and not os.environ.get("AWS_ACCESS_KEY_ID"):
        profile = ""
    return CloudTarget("s3", bucket, prefix, config, client, profile, endpoint)


def _translate_gs(bucket: str, prefix: str, rest: dict[str, Any], endpoint: Endpoint | None) -> CloudTarget | None:
    config: dict[str, Any] = {}
    token = "anon" if rest.pop("anon", False) else rest.pop("token", None)
    if token == "anon":
        config["skip_signature"] = True
    elif isinstance(token, dict):
        if token.get("type") != "service_account":
            return None
        config["service_account_key"] = json.dumps(token)
    elif isinstance(token, str) and token.endswith(".json"):
        config["application_credentials"] = token
    elif token not in (None, "google_default"):
        return None
    for harmless in ("endpoint_url", "project", "use_listings_cache", "skip_instance_cache"):
        rest.pop(harmless, None)
    if rest:
        return None
    client: dict[str, Any] = {}
    if token == "anon" or (endpoint and not config):
        # Without a token, writes would ask the metadata service of Google's machines for one, signatures skipped or not.
        config["bearer_token"] = "anonymous"
    if endpoint is not None:
        config["base_url"] = endpoint.address
        client["allow_http"] = endpoint.address.startswith("http://")
    return CloudTarget("gs", bucket, prefix, config, client, endpoint=endpoint)


def _translate_az(
    bucket: str, prefix: str, account: str, rest: dict[str, Any], endpoint: Endpoint | None
) -> CloudTarget | None:
    config: dict[str, Any] = {"account_name": account} if account else {}
    client: dict[str, Any] = {}
    _move(rest, config, account_name="account_name", account_key="account_key", sas_token="sas_key")
    _move(rest, config, client_id="client_id", client_secret="client_secret", tenant_id="tenant_id")
    _move(rest, config, account_host="endpoint", endpoint="endpoint", endpoint_url="endpoint", anon="skip_signature")
    if rest:
        return None
    if endpoint is not None:
        config["endpoint"] = endpoint.address
        client["allow_http"] = endpoint.address.startswith("http://")
    return CloudTarget("az", bucket, prefix, config, client, endpoint=endpoint)


def _move(source: dict[str, Any], target: dict[str, Any], **names: str) -> None:
    for name, translated in names.items():
        value = source.pop(name, None)
        if value is not None and value is not False:
            target[translated] = value


class _Stay(HTTPRedirectHandler):
    """Follows nowhere: where a bucket is stands in the answer that sends elsewhere."""

    def redirect_request(self, *_: object) -> None:
        return None


def _bucket_region(bucket: str) -> str:
    """Ask AWS where a bucket is: the answer needs no credentials, and a request to the wrong region fails."""
    try:
        return _asked_region(bucket)
    except (OSError, LookupError, http.client.HTTPException):
        return _DEFAULT_REGION


@functools.lru_cache(maxsize=256)
def _asked_region(bucket: str) -> str:
    # Raises where there is no answer, so that only answers are remembered.
    request = Request(f"{_AWS}/{quote(bucket)}", method="HEAD")
    try:
        with build_opener(_Stay).open(request, timeout=5) as answer:
            headers = answer.headers
    except HTTPError as error:
        headers = error.headers
        error.close()
    region: str = headers["x-amz-bucket-region"] or ""
    if not region:
        raise LookupError(f"AWS did not tell where {bucket} is")
    return region
