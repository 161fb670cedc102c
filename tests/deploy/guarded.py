"""moto's S3 with a guard in front that knows roles by their access keys, enforces their policies, and records what was asked."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from hangarlake.testing.servers import MotoServer
from tests.deploy.policies import ROLES, Action, Document, actions_of, is_allowed, policy


@dataclass(frozen=True)
class Asked:
    """One action of one request, and whether it was granted."""

    role: str
    action: str
    key: str
    conditional: bool
    granted: bool


class GuardedServer(MotoServer):
    """S3 with one bucket, in whose folder a repository may live.

    As S3 does, it says “denied” instead of “absent” to a role that may not list.

    Parameters
    ----------
    lacking : mapping, optional
        Actions that the policies of roles do not grant, other than the files say.
    installed : (str, str, mapping), optional
        A bucket that is there already, the folder, and the policies of the roles and of the bucket, to be enforced instead of
        the files in a bucket of the server's own.
    """

    def __init__(
        self,
        lacking: Mapping[str, str] | None = None,
        installed: tuple[str, str, Mapping[str, Document]] | None = None,
    ) -> None:
        super().__init__()
        self._make = installed is None
        self.policies: dict[str, Document]
        if installed is None:
            # moto keeps its buckets in the process, whichever server made them.
            self.bucket, self.folder = f"guarded-{secrets.token_hex(8)}", "some/folder/"
            self.policies = {name: policy(name, self.bucket, self.folder) for name in (*ROLES, "bucket")}
        else:
            self.bucket, self.folder, self.policies = installed[0], installed[1], dict(installed[2])
        for role, action in (lacking or {}).items():
            self.policies[role] = _without(self.policies[role], action)
        self.asked: list[Asked] = []

    def start(self) -> Self:
        super().start()
        if self._make:
            self.create_bucket(self.bucket)
        return self

    @property
    def url(self) -> str:
        """Where the repository is to be."""
        return f"s3://{self.bucket}/{self.folder.rstrip('/')}"

    def options(self, role: str, engine: str) -> dict[str, Any]:
        """Return the `storage_options` of a role; “owner” may do everything and is not recorded."""
        return {**self.storage_options, "key": role, "engine": engine}

    def denied(self) -> set[tuple[str, str, str]]:
        """Return role, action and key of everything that was refused."""
        return {(each.role, each.action, each.key) for each in self.asked if not each.granted}

    def _answer(self, environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        credential = environment.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2]
        role = credential.partition("/")[0]
        if role not in ROLES:
            return super()._answer(environment, start)
        body = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        environment["wsgi.input"] = io.BytesIO(body)
        headers = {
            name[5:].replace("_", "-").lower(): str(value) for name, value in environment.items() if name[:5] == "HTTP_"
        }
        actions = actions_of(
            environment["REQUEST_METHOD"], environment["PATH_INFO"], environment["QUERY_STRING"], headers, body
        )
        granted = [self._is_granted(role, action) for action in actions]
        if all(granted):
            return self._hiding(role, environment, start)
        if actions[0].name == "s3:DeleteObject" and environment["REQUEST_METHOD"] == "POST":
            return _send(start, 200, _partly_deleted(actions, granted))
        return _send(start, 403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")

    def _is_granted(self, role: str, action: Action) -> bool:
        granted = is_allowed(action, self.policies[role], self.policies["bucket"])
        key = action.resource.partition(f":{self.bucket}/")[2].removeprefix(self.folder)
        self.asked.append(Asked(role, action.name, key, "s3:if-none-match" in action.context, granted))
        return granted

    def _hiding(self, role: str, environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Pass a request on; what is absent is denied to one who may not list."""
        lists = Action("s3:ListBucket", f"arn:aws:s3:::{self.bucket}", {"aws:SecureTransport": "true"})
        if is_allowed(lists, self.policies[role], self.policies["bucket"]):
            return super()._answer(environment, start)
        answers: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(super()._answer(environment, lambda status, more, *_: answers.append((status, more))))
        status, more = answers[-1]
        if status.startswith("404"):
            return _send(start, 403, b"<Error><Code>AccessDenied</Code></Error>")
        start(status, more)
        return [body]


def _send(start: Any, status: int, content: bytes) -> Iterable[bytes]:
    start(f"{status} guard", [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))])
    return [content]


def _partly_deleted(actions: list[Action], granted: list[bool]) -> bytes:
    """Answer the deletion of many as S3 does, object by object. Nothing is deleted: a refusal is what is looked for here."""
    keys = [action.resource.partition("/")[2] for action in actions]
    errors = [
        f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        for key, one in zip(keys, granted, strict=True)
        if not one
    ]
    return f"<DeleteResult>{''.join(errors)}</DeleteResult>".encode()


def _without(document: Mapping[str, Any], action: str) -> dict[str, Any]:
    """Return a policy that no longer grants an action."""
    kept = []
    for statement in document["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else list(statement["Action"])
        if left := [each for each in actions if each != action]:
            kept.append({**statement, "Action": left})
    return {**document, "Statement": kept}
