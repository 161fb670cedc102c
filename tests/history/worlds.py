"""Repositories as nested dicts: writing them, reading them, and what merging them should give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from hangarlake import Commit, Repository, WriteCheckout

#: Column → key → value; under ``""`` the attributes.
World: TypeAlias = dict[str, dict[Any, Any]]

#: A column's kind follows from its name.
SCHEMAS: dict[str, dict[str, Any]] = {
    "a": {"shape": (), "dtype": "int64"},
    "b": {"shape": (2,), "dtype": "float32"},
    "v": {"shape": (None,), "dtype": "int16", "variable_shape": True},
    "n": {"shape": (), "dtype": "int64", "nested": True},
}


def add_column(w: WriteCheckout, name: str) -> None:
    if name in SCHEMAS:
        w.add_ndarray_column(name, **SCHEMAS[name])
    else:
        w.add_str_column(name)


def value_of(name: str, number: int) -> Any:
    """Return the sample that stands for a number in a column."""
    return {
        "a": lambda: np.int64(number),
        "b": lambda: np.full(2, number, np.float32),
        "v": lambda: np.full(number % 5, number, np.int16),
        "n": lambda: np.int64(number),
    }.get(name, lambda: str(number))()


def number_of(name: str, value: Any) -> int:
    if name == "v":
        return int(value[0]) if len(value) else 0
    return int(value[0]) if name == "b" else int(value)


def stage(w: WriteCheckout, world: Mapping[str, Mapping[Any, int]]) -> None:
    """Make what is staged equal to a world."""
    present = read(w)
    for name in set(present) - set(world) - {""}:
        w.remove(name)
    for name, samples in {"": {}, **world}.items():
        now = present.get(name, {})
        if name == "":
            for key in set(now) - set(samples):
                del w.attrs[key]
            w.attrs.update(samples)
            continue
        if name not in present:
            add_column(w, name)
        column = w[name]
        for key in now:
            if key not in samples:
                del column[key]
        for key, number in samples.items():
            if now.get(key) != number:
                column[key] = value_of(name, number)


def commit(repo: Repository, branch: str, world: Mapping[str, Mapping[Any, int]], message: str = "change") -> Commit:
    """Commit a world to a branch, whether it changes anything or not."""
    with repo.checkout(branch, write=True, staging="memory") as w:
        stage(w, world)
        return w.commit(message, allow_empty=True)


def read(view: Any) -> World:
    """Read everything that a checkout holds."""
    world: World = {"": dict(view.attrs)} if view.attrs else {}
    for name, column in view.columns.items():
        if column.nested:
            world[name] = {(s, sub): number_of(name, value) for s in column for sub, value in column[s].items()}
        else:
            world[name] = {key: number_of(name, column[key]) for key in column}
    return world


def world_at(repo: Repository, rev: Any) -> World:
    with repo.checkout(rev) as view:
        return read(view)


def merged(
    base: World, ours: World, theirs: World, pick: Callable[[str, Any], str] = lambda name, key: "ours"
) -> tuple[World, set[tuple[str, Any]]]:
    """Return what a three-way merge of worlds gives, and where it conflicts; `pick` says which side is taken there."""
    conflicts: set[tuple[str, Any]] = set()
    out: World = {}

    def choose(name: str, key: Any, o: Any, t: Any) -> Any:
        conflicts.add((name, key))
        return o if pick(name, key) == "ours" else t

    for name in {*base, *ours, *theirs}:
        b, o, t = base.get(name), ours.get(name), theirs.get(name)
        if name and (o is None or t is None):
            left = t if o is None else o
            kept = left
            if b is not None:
                kept = None if left in (None, b) else choose(name, None, o, t)
            if kept is not None:
                out[name] = dict(kept)
            continue
        b, o, t = b or {}, o or {}, t or {}
        samples = {}
        for key in {*o, *t}:
            x, y, z = b.get(key), o.get(key), t.get(key)
            value = y if z in (y, x) else z if x == y else choose(name, key, y, z)
            if value is not None:
                samples[key] = value
        if name or samples:
            out[name] = samples
    return out, conflicts
