"""Moving repositories between any two places: clone, fetch, push, and parts of the data."""

from hangarlake.transfer.remotes import Remote, Remotes
from hangarlake.transfer.results import FetchResult, Progress, PushResult

__all__ = ["FetchResult", "Progress", "PushResult", "Remote", "Remotes"]
