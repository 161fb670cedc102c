"""Tables and JSON files of the benchmarks."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure and its budget, if it has one."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the budget is met."""
        if self.at_least is not None:
            return "met" if self.value >= self.at_least else "MISSED"
        if self.at_most is not None:
            return "met" if self.value <= self.at_most else "MISSED"
        return ""

    @property
    def budget(self) -> str:
        """The budget as text."""
        if self.at_least is not None:
            return f"≥ {self.at_least:,.4g}" if self.at_least < 1000 else f"≥ {self.at_least:,.0f}"
        return "" if self.at_most is None else f"≤ {self.at_most:,.4g}"


def machine() -> dict[str, Any]:
    """Describe what was measured on."""
    packages = ("hangarlake", "numpy", "zarr", "numcodecs", "blake3")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "packages": {name: version(name) for name in packages},
    }


def write_report(name: str, rows: Sequence[Row], about: dict[str, Any]) -> None:
    """Print a table and write ``benchmarks/results/<name>.json``."""
    width = max(len(row.name) for row in rows)
    print(
        f"\n{name}: {about['date']}, Python {about['python']}, {about['processors']} processors, load {about['load']}"
    )
    for row in rows:
        value = f"{row.value:,.0f}" if abs(row.value) >= 1000 else f"{row.value:,.2f}"
        print(f"  {row.name:<{width}}  {value:>12} {row.unit:<10} {row.budget:>12}  {row.verdict}")
    folder = Path(__file__).resolve().parent / "results"
    folder.mkdir(exist_ok=True)
    data = {"about": about, "rows": [{**asdict(row), "verdict": row.verdict} for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
