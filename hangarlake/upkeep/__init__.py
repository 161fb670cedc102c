"""Keeping a repository sound: checking that it holds what it promises."""

from hangarlake.upkeep.results import Problem, VerifyReport

__all__ = ["Problem", "VerifyReport"]
