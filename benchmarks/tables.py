"""Write the results of the last runs into docs/benchmarks.md: ``python benchmarks/tables.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

SECTIONS = {
    "roundtrips": ("Round trips", ""),
    "columns": (
        "Columns",
        "28×28 uint8 samples, digit-like (compressible) and noise (not), 100,000 of them, local disk, `fsync` included.",
    ),
    "history": ("History", ""),
    "transfer": ("Moving repositories (over `rclone serve s3` on the same machine)", ""),
    "upkeep": ("Verifying", "From a warm page cache."),
}
OTHERS = {
    "Store": "zarr on our `Store`",
    "zarr": "zarr on a plain store",
    "Icechunk": "Icechunk",
    "TensorStore": "TensorStore zarr3",
}


def results_of(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return results


def machine_of(about: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    return f"{about['date']}, Python {about['python']}, {about['processors']} processors, load {about['load']:.1f}, {packages}."


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.2f}"


def plain(name: str) -> str:
    """Return the table of a benchmark with budgets."""
    results = results_of(name)
    title, remark = SECTIONS[name]
    lines = [f"### {title}", "", "\n".join(filter(None, [machine_of(results["about"]), remark])), ""]
    lines += ["| what | value | budget | |", "|---|---|---|---|"]
    for row in results["rows"]:
        what = re.sub(r"^ +", "– ", row["name"])
        least, most = row["at_least"], row["at_most"]
        budget = f"at least {least:,}" if least is not None else f"at most {most:,}" if most is not None else ""
        verdict = row["verdict"] if row["verdict"] != "MISSED" else "**missed**"
        lines.append(f"| {what} | {number(row['value'])} {row['unit']} | {budget} | {verdict} |".replace("  ", " "))
    return "\n".join(lines)


def arrays() -> str:
    """Return the table of arrays beside others: ratios to `Array`."""
    results = results_of("arrays")
    lines = [
        "### Arrays, beside others",
        "",
        machine_of(results["about"]),
        "Medians, each with its own default codec. How many times longer than Hangarlake's `Array` each takes (above 1: ours is faster).\n"
        "Hangarlake flushes what it writes to the disk; the others do not.",
        "",
        f"| where | array in chunks | | Array | {' | '.join(OTHERS.values())} |",
        "|---|---|---|---|" + "---|" * len(OTHERS),
    ]
    ratios: dict[tuple[str, str], dict[str, float]] = {}
    rest = []
    for row in results["rows"]:
        label, _, what = row["name"].rpartition(": ")
        metric, _, who = what.rpartition(", ")
        if row["unit"] == "×":
            ratios.setdefault((label, metric), {})[who.removesuffix(" ÷ Array")] = row["value"]
        elif who == "Array":
            ratios.setdefault((label, metric), {})["ms"] = row["value"]
        elif not metric or metric not in {each for _, each in ratios}:
            rest.append(f"| {row['name']} | {number(row['value'])} {row['unit']} |")
    for (label, metric), found in ratios.items():
        where, what = ("S3", label.removeprefix("S3: ")) if label.startswith("S3: ") else ("local", label)
        cells = " | ".join(f"{found[who]:.2f}" if who in found else "" for who in OTHERS)
        lines.append(f"| {where} | {what} | {metric} | {number(found['ms'])} ms | {cells} |")
    return "\n".join([*lines, "", "| besides | |", "|---|---|", *rest])


def main() -> None:
    """Replace the tables of the page."""
    text = PAGE.read_text("utf-8")
    tables = "\n\n".join([*(plain(name) for name in SECTIONS), arrays()])
    begin, end = text.index("### Round trips\n"), text.index("A random batch from a cold cache decodes")
    PAGE.write_text(f"{text[:begin]}{tables}\n\n{text[end:]}", "utf-8")


if __name__ == "__main__":
    main()
