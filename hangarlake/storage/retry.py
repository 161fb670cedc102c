"""What a failed request means, and when to try again."""

from __future__ import annotations

import errno
import logging
import random
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "NEEDS_BUCKET",
    "RetryPolicy",
    "chain_of",
    "codes_of",
    "is_absent",
    "is_conflict",
    "is_missing_bucket",
    "is_present",
    "is_transient",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Operations that need no object: “not found” can only be about the bucket.
NEEDS_BUCKET = frozenset({"write", "create", "list"})

_TRANSIENT_CODES = frozenset(
    {"408", "425", "429", "500", "502", "503", "504", "InternalError", "InternalServerError", "OperationAborted"}
    | {"RequestTimeout", "ServerBusy", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException"}
    | {"TooManyRequests", "BandwidthLimitExceeded", "ConditionalRequestConflict", "OperationTimedOut"}
)
_ABSENT_CODES = frozenset({"404", "NoSuchKey", "NotFound", "BlobNotFound"})
_PRESENT_CODES = frozenset({"412", "PreconditionFailed", "BlobAlreadyExists", "ConditionNotMet", "conditionNotMet"})
_CONFLICT_CODES = frozenset({"ConditionalRequestConflict", "OperationAborted"})
_TRANSIENT_ERRNO = frozenset(
    {errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH}
    | {errno.ENETUNREACH, errno.ENETRESET, errno.EAGAIN, errno.EINTR}
)
# Classes of the libraries below fsspec, by name: none of them is imported here.
_TRANSIENT_NAMES = frozenset(
    {"ClientConnectionError", "ClientConnectorError", "ClientOSError", "ClientPayloadError", "ConnectTimeoutError"}
    | {"ConnectionClosedError", "EndpointConnectionError", "FSTimeoutError", "HTTPClientError", "IncompleteRead"}
    | {
        "IncompleteReadError",
        "ReadTimeoutError",
        "RemoteDisconnected",
        "ResponseStreamingError",
        "ServerDisconnectedError",
    }
    | {"ServerTimeoutError", "ConnectionResetError", "ChunkedEncodingError", "ProtocolError", "TransferEncodingError"}
)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, what caused it, what caused that, and so on."""
    link: BaseException | None = error
    # A bound, because chains can be circular.
    for _ in range(10):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def codes_of(error: BaseException) -> Iterator[str]:
    """Yield the error codes and status numbers that servers gave, along the chain of causes.

    The class of an exception is not to be trusted: s3fs, for example, reports a failed condition as ``EINVAL``.
    """
    for link in chain_of(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            yield str(response.get("Error", {}).get("Code", ""))
            yield str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        # aiohttp: status; gcsfs: code; azure: status_code and error_code.
        known = vars(link) if hasattr(link, "__dict__") else {}
        for name in ("status", "code", "status_code", "error_code"):
            # Not getattr: aiohttp has a property of that name that warns of itself.
            value = known.get(name)
            if isinstance(value, int | str) and not isinstance(value, bool):
                yield str(value)


def is_present(error: BaseException) -> bool:
    """Whether a conditional write failed because the object exists."""
    return isinstance(error, FileExistsError) or not _PRESENT_CODES.isdisjoint(codes_of(error))


def is_absent(error: BaseException) -> bool:
    """Whether a request failed because the object does not exist (a missing bucket is something else)."""
    if is_missing_bucket(error):
        return False
    return isinstance(error, FileNotFoundError) or not _ABSENT_CODES.isdisjoint(codes_of(error))


def is_missing_bucket(error: BaseException) -> bool:
    """Whether a request failed because the bucket does not exist."""
    return not {"NoSuchBucket", "ContainerNotFound"}.isdisjoint(codes_of(error))


def is_conflict(error: BaseException) -> bool:
    """Whether the server was busy with another request for the same object, and decided nothing."""
    return not _CONFLICT_CODES.isdisjoint(codes_of(error))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError | NotImplementedError):
        return False
    codes = {code for code in codes_of(error) if code}
    if codes:
        return not _TRANSIENT_CODES.isdisjoint(codes)
    for link in chain_of(error):
        if isinstance(link, TimeoutError | ConnectionError) or type(link).__name__ in _TRANSIENT_NAMES:
            return True
        if isinstance(link, OSError) and link.errno in _TRANSIENT_ERRNO:
            return True
    return False


class RetryPolicy:
    """Exponential backoff with full jitter, for faults that pass.

    Parameters
    ----------
    attempts : int
        How often a request is made at most. 1 where the client below tries again by itself: retries of
        retries would turn a minute into an hour.
    first, longest : float
        Seconds: the mean of the first pause is half of `first`; no pause is longer than `longest`.
    sleep : callable
        What waits; tests pass something quicker.
    """

    def __init__(
        self,
        attempts: int = 5,
        first: float = 0.1,
        longest: float = 5.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.attempts = attempts
        self.first = first
        self.longest = longest
        self.sleep = sleep

    def run(
        self,
        call: Callable[[], T],
        *,
        attempts: int | None = None,
        when: Callable[[BaseException], bool] = is_transient,
    ) -> T:
        """Return what `call` returns; repeat it while it raises errors for which `when` is true and attempts are left."""
        left = self.attempts if attempts is None else attempts
        pause = self.first
        while True:
            left -= 1
            try:
                return call()
            except Exception as error:
                if left <= 0 or not when(error):
                    raise
                logger.debug("trying again after %s", type(error).__name__)
            self.sleep(random.uniform(0, pause))
            pause = min(self.longest, pause * 2)
