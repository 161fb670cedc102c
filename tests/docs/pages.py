"""Pages of the documentation as sequences of code blocks.

What is executed, and how a page says otherwise:

- All ``python`` blocks of a page run in one process and one namespace, from top to bottom. A ``text`` block that follows one
  directly is what it prints.
- In ``console`` blocks, lines that begin with ``$ `` are run; what stands below one is what it prints, if anything stands there. A
  command has to succeed, unless ``$ echo $?`` follows.
- In expected output ``…`` stands for anything, in a line or as a line for any number of lines. Ids and times may differ.
- ``<!-- hidden: python`` … ``-->`` (or ``console``) runs without being shown: set-up that a reader does not need.
- ``<!-- not executed: REASON -->`` before a block lets it be shown only.
- ``<!-- needs: s3 BUCKET -->`` gives the page an S3 server with such a bucket, by ``AWS_*``; ``<!-- needs: PACKAGE -->`` skips the page
  where that package is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EXECUTED", "ROOT", "Block", "blocks_of", "matches", "needs_of", "pages"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXECUTED = ("python", "console")

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<language>[A-Za-z]*)(?P<rest>[^`\n]*)$")
_HIDDEN = re.compile(r"^<!-- hidden: (python|console)$")
_SKIPPED = re.compile(r"^ *<!-- not executed: (.*) -->$")
_NEEDS = re.compile(r"^<!-- needs: (.*) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of code.

    Attributes
    ----------
    language : str
    text : str
    line : int
        Of the page, of the first line of the text.
    skipped : str or None
        Why it is not executed.
    follows : bool
        Whether nothing but white space stands between the block before and this one.
    """

    language: str
    text: str
    line: int
    skipped: str | None = None
    follows: bool = False


def pages() -> list[Path]:
    """Return the pages that have blocks to execute; not the specification and the design notes."""
    found = sorted(DOCS.rglob("*.md"))
    ours = [path for path in found if path != DOCS / "format.md" and DOCS / "design" not in path.parents]
    return [path for path in ours if any(block.language in EXECUTED for block in blocks_of(path.read_text("utf-8")))]


def needs_of(text: str) -> list[str]:
    """Return what a page says that it needs."""
    return _NEEDS.findall(text)


def blocks_of(text: str) -> list[Block]:
    """Return all blocks of a page, in order."""
    blocks: list[Block] = []
    lines = text.splitlines()
    skipped: str | None = None
    follows = False
    at = 0
    while at < len(lines):
        line = lines[at]
        hidden, fence = _HIDDEN.match(line), _FENCE.match(line)
        if hidden or fence:
            end = "-->" if hidden else fence["indent"] + fence["fence"]  # type: ignore[index]  # one of them matched
            stop = lines.index(end, at + 1)
            indent = 0 if hidden else len(fence["indent"])  # type: ignore[index]  # one of them matched
            body = "".join(f"{each[indent:]}\n" for each in lines[at + 1 : stop])
            language = hidden[1] if hidden else fence["language"]  # type: ignore[index]  # as above
            blocks.append(Block(language, body, at + 2, skipped, follows))
            skipped, follows, at = None, True, stop + 1
            continue
        marked = _SKIPPED.match(line)
        if marked:
            skipped = marked[1].strip()
        elif line.strip():
            follows = False
        at += 1
    return blocks


def matches(expected: str, printed: str) -> bool:
    """Tell whether what was printed is what a page shows."""
    parts = [_pattern(line) for line in _lines(expected)]
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in _lines(printed))) is not None


def _pattern(line: str) -> str:
    if line.strip() == "…":
        return r"(?:.*\n)*?"
    return ".*".join(re.escape(part) for part in line.split("…")) + r"\n"


def _lines(text: str) -> list[str]:
    return [_normalised(line.rstrip()) for line in text.strip("\n").splitlines()]


def _normalised(line: str) -> str:
    line = re.sub(r"\b[0-9a-f]{7,64}\b", "<id>", line)
    return re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?", "<time>", line)
