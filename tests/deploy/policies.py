"""As much of AWS's policy language as the Terraform modules use: what may a role do, given the very files that Terraform reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, unquote

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "terraform" / "aws" / "policies"
ROLES = ("reader", "writer", "maintainer")

Document = Mapping[str, Any]


def policy(name: str, bucket: str, folder: str = "") -> dict[str, Any]:
    """Return a policy file filled as `local.arns` in terraform/aws/bucket.tf fills it."""
    arn = f"arn:aws:s3:::{bucket}"
    template = Template((POLICIES / f"{name}.json.tftpl").read_text("utf-8"))
    document: dict[str, Any] = json.loads(template.substitute(bucket_arn=arn, root_arn=f"{arn}/{folder}"))
    return document


@dataclass(frozen=True)
class Action:
    """One thing that a request does, as AWS's authorisation sees it."""

    name: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def actions_of(
    method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, *, tls: bool = True
) -> list[Action]:
    """Return what a request to S3, addressed by path, asks to be allowed.

    Anything that the product has never been seen to do gets a name that no policy grants.
    """
    bucket, _, key = path.lstrip("/").partition("/")
    asked = parse_qs(query, keep_blank_values=True)
    context = {"aws:SecureTransport": "true" if tls else "false"}
    bucket_arn = f"arn:aws:s3:::{bucket}"

    def on(name: str, resource: str, **more: str) -> Action:
        return Action(name, resource, {**context, **{key.replace("_", ":", 1): value for key, value in more.items()}})

    if not key:
        if method == "POST" and "delete" in asked:
            names = re.findall(r"<Key>(.*?)</Key>", body.decode("utf-8"))
            return [on("s3:DeleteObject", f"{bucket_arn}/{unescape(name)}") for name in names]
        if method == "GET" and not asked.keys() - _LISTING:
            more = {"s3_prefix": asked["prefix"][0]} if "prefix" in asked else {}
            return [on("s3:ListBucket", bucket_arn, **more)]
        if method == "HEAD":
            return [on("s3:ListBucket", bucket_arn)]
        return [on(f"other:{method} bucket?{query}", bucket_arn)]
    resource = f"{bucket_arn}/{key}"
    if method in ("GET", "HEAD") and not asked.keys() - {"x-id", "partNumber"}:
        return [on("s3:GetObject", resource)]
    if method == "PUT" and not asked.keys() - {"x-id", "partNumber", "uploadId"}:
        if "x-amz-copy-source" in headers:
            source = unquote(headers["x-amz-copy-source"]).lstrip("/")
            return [on("s3:GetObject", f"arn:aws:s3:::{source}"), on("s3:PutObject", resource)]
        return [_put(resource, headers, context)]
    if method == "POST" and asked.keys() & {"uploads", "uploadId"}:
        return [_put(resource, headers, context)]
    if method == "DELETE":
        return [on("s3:AbortMultipartUpload" if "uploadId" in asked else "s3:DeleteObject", resource)]
    return [on(f"other:{method} object?{query}", resource)]


_LISTING = {
    "list-type",
    "prefix",
    "delimiter",
    "max-keys",
    "continuation-token",
    "start-after",
    "encoding-type",
    "x-id",
}


def _put(resource: str, headers: Mapping[str, str], context: Mapping[str, str]) -> Action:
    more = {"s3:if-none-match": headers["if-none-match"]} if "if-none-match" in headers else {}
    return Action("s3:PutObject", resource, {**context, **more})


def unescape(name: str) -> str:
    """Return a key as XML wrote it."""
    for entity, plain in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
        name = name.replace(entity, plain)
    return name


def is_allowed(action: Action, identity: Document, resource: Document) -> bool:
    """Whether a role with the policy `identity` may do it in a bucket with the policy `resource`.

    Something has to allow it, and nothing may deny it.
    """
    statements = [*identity["Statement"], *resource["Statement"]]
    effects = {statement["Effect"] for statement in statements if _matches(statement, action)}
    return effects == {"Allow"}


def _matches(statement: Document, action: Action) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    assert not unknown, f"{unknown} in a policy: teach this module what that means"
    return (
        any(_like(pattern, action.name) for pattern in _many(statement["Action"]))
        and any(_like(pattern, action.resource) for pattern in _many(statement["Resource"]))
        and all(
            _holds(operator, key, _many(values), action.context)
            for operator, conditions in statement.get("Condition", {}).items()
            for key, values in conditions.items()
        )
    )


def _holds(operator: str, key: str, values: list[str], context: Mapping[str, str]) -> bool:
    present = context.get(key)
    if operator == "Null":
        return str(present is None).lower() in values
    if operator in ("Bool", "StringEquals"):
        return present in values
    if operator == "StringLike":
        return present is not None and any(_like(value, present) for value in values)
    raise AssertionError(f"{operator} in a policy: teach this module what that means")


def _many(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _like(pattern: str, text: str) -> bool:
    parts = re.split(r"([*?])", pattern)
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts), text) is not None
