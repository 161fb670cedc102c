"""Create the bucket of a URL, if it is not there: python create_bucket.py s3://bucket or gs://bucket.

Credentials and the server's address come from the environment (AWS_*, STORAGE_EMULATOR_HOST).
"""

from __future__ import annotations

import os
import sys
from typing import Any

import fsspec


def create_bucket(url: str) -> bool:
    """Create the bucket, and return whether it was absent."""
    protocol, _, rest = url.partition("://")
    bucket = rest.partition("/")[0]
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if protocol == "gs":
        options["project"] = os.environ.get("GOOGLE_CLOUD_PROJECT", "local")
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            options["token"] = "anon"
    elif os.environ.get("AWS_ENDPOINT_URL"):
        options["endpoint_url"] = os.environ["AWS_ENDPOINT_URL"]
    filesystem = fsspec.filesystem(protocol, **options)
    if filesystem.exists(bucket):
        return False
    filesystem.mkdir(bucket)
    return True


if __name__ == "__main__":
    created = create_bucket(sys.argv[1])
    print(f"{sys.argv[1]}: {'created' if created else 'was there'}")  # noqa: T201 -- a script
