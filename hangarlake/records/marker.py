"""The marker: the one object that says “here is a repository”, and what one must understand to use it."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from hangarlake.errors import CorruptionError, UnsupportedFormatError
from hangarlake.records.canonical import format_time, parse_time, seal, unseal, utc_now
from hangarlake.records.movements import check_branch_name

__all__ = ["MARKER_KEY", "VERSION", "Features", "Marker"]

MARKER_KEY = "hangarlake.json"
#: The format version that this code reads and writes.
VERSION: Literal[1] = 1

_LIMIT = 2**20  # of the marker, in bytes
_MAX_GRACE = 86_400 * timedelta.max.days  # in seconds
_KNOWN_READ_FEATURES: frozenset[str] = frozenset()
_KNOWN_WRITE_FEATURES: frozenset[str] = frozenset()
_REMEDY = "upgrade with: pip install --upgrade hangarlake"


def _aware(time: datetime) -> datetime:
    return parse_time(format_time(time))


class Features(BaseModel):
    """Extensions of the format that a reader, or a writer, must understand."""

    model_config = ConfigDict(frozen=True)

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


class Marker(BaseModel):
    """The content of ``hangarlake.json``.

    Attributes
    ----------
    id : str
        32 hexadecimal digits, shared by all clones of the repository.
    created : datetime
        Aware, UTC.
    default_branch : str
    grace_seconds : int
        How long garbage is kept before it may be swept.
    features : Features
    version : int
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["hangarlake"] = "hangarlake"
    version: Literal[1] = VERSION
    id: Annotated[str, Field(pattern=r"\A[0-9a-f]{32}\z")]
    created: Annotated[datetime, AfterValidator(_aware)]
    default_branch: Annotated[str, Field(min_length=1, max_length=1024)]
    grace_seconds: Annotated[int, Field(ge=0, le=_MAX_GRACE)] = 86_400
    features: Features = Features()

    @field_validator("created", mode="before")
    @classmethod
    def _read_time(cls, value: Any) -> Any:
        return parse_time(value) if isinstance(value, str) else value

    @classmethod
    def new(cls, *, default_branch: str = "main", grace: timedelta = timedelta(days=1)) -> Marker:
        """Return the marker of a new repository, with a random id."""
        return cls(
            id=secrets.token_hex(16),
            created=utc_now(),
            default_branch=default_branch,
            grace_seconds=int(grace.total_seconds()),
        )

    @property
    def grace(self) -> timedelta:
        """The grace period of garbage collection."""
        return timedelta(seconds=self.grace_seconds)

    def to_bytes(self) -> bytes:
        """Return the object's bytes: sealed JSON."""
        return seal(
            {
                "created": format_time(self.created),
                "default_branch": self.default_branch,
                "features": {"read": list(self.features.read), "write": list(self.features.write)},
                "format": self.format,
                "grace_seconds": self.grace_seconds,
                "id": self.id,
                "version": self.version,
            }
        )

    @classmethod
    def parse(cls, data: bytes, what: str = MARKER_KEY) -> Marker:
        """Read a marker from a bucket.

        Raises
        ------
        CorruptionError
            If it is damaged.
        UnsupportedFormatError
            If it asks for something that this version does not know.
        """
        obj = unseal(data, what, limit=_LIMIT)
        # Version and features come first: the rest of a newer marker may look different, and that is not corruption.
        if obj.get("format") != "hangarlake":
            raise UnsupportedFormatError(f"{what} is not the marker of a Hangarlake repository")
        if obj.get("version") != VERSION or isinstance(obj["version"], bool):
            raise UnsupportedFormatError(
                f"the repository has format version {obj.get('version')!r}, this Hangarlake knows {VERSION}: {_REMEDY}"
            )
        features = obj.get("features")
        if isinstance(features, dict) and isinstance(features.get("read"), list):
            unknown = sorted({str(name) for name in features["read"]} - _KNOWN_READ_FEATURES)
            if unknown:
                raise UnsupportedFormatError(
                    f"the repository uses {', '.join(unknown)}, unknown to this Hangarlake: {_REMEDY}"
                )
        try:
            marker = cls.model_validate(obj)
            check_branch_name(marker.default_branch)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise CorruptionError(f"{what} is not a valid marker: {place}: {first['msg']}") from error
        except ValueError as error:
            raise CorruptionError(f"{what} is not a valid marker: {error}") from error
        return marker

    def check_writable(self) -> None:
        """Refuse to write with features that this version does not know.

        Raises
        ------
        UnsupportedFormatError
        """
        unknown = sorted(set(self.features.write) - _KNOWN_WRITE_FEATURES)
        if unknown:
            raise UnsupportedFormatError(
                f"writing to this repository needs {', '.join(unknown)}, unknown to this Hangarlake "
                f"(reading works): {_REMEDY}"
            )
