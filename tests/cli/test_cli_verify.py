"""`hangarlake verify`: one line when all is well; exit status 1, and what suffers, when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, one_line


def pack_of(repo: Path) -> Path:
    (pack,) = [path for path in (repo / "packs").rglob("*") if path.is_file()]
    return pack


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_sound_repository_is_one_line(run: Run, repo: Path, committed: str) -> None:
    done = run("verify")
    assert (done.status, done.err) == (0, "")
    (line,) = done.out.splitlines()
    assert line.startswith("Checked ")
    assert "2 commits, 1 node, 1 chunk, 3 samples" in line
    assert line.endswith("All well.")
    assert "node" not in run("verify", "--level", "refs").out
    assert "chunk" not in run("verify", committed[:8], "--level", "records").out
    assert run("verify", "main").status == 0


def test_json_is_the_report(run: Run, repo: Path, committed: str) -> None:
    report = run("verify", "main", "--json").json
    assert report["ok"] is True
    assert report["commit"] == committed
    assert report["checked"]["samples"] == 3
    assert run("verify", "--sample", "0%", "--json").json["checked"]["samples"] == 0
    assert run("verify", "--sample", "1.0", "--seed", "7", "--json").json["checked"]["samples"] == 3
    assert run("verify", "--sample", "1", "--json").json["checked"]["chunks"] == 1


def test_a_small_share_takes_a_chunk_and_says_of_how_many(run: Run, repo: Path, committed: str) -> None:
    assert ", 1 of 1 chunk, 3 samples, " in run("verify", "--sample", "2%").out
    report = run("verify", "--sample", "2%", "--json").json
    assert report["sample"] == 0.02
    assert (report["checked"]["chunks"], report["checked"]["chunks_total"]) == (1, 1)
    assert "0 of 1 chunk" in run("verify", "--sample", "0").out
    assert run("verify", "--json").json["sample"] is None
    damage(pack_of(repo))
    assert run("verify", "--sample", "2%").status == 1


def test_damage_is_listed_with_what_it_affects(run: Run, repo: Path, committed: str) -> None:
    pack = pack_of(repo)
    damage(pack)
    done = run("verify")
    assert (done.status, done.err) == (1, "")
    lines = done.out.splitlines()
    key = pack.relative_to(repo).as_posix()
    assert lines[0].split() == ["damaged", key]
    assert lines[1].strip().startswith("its ")
    assert lines[2].strip() == f"affects images['00'], images['01'], images['02'] in commit {committed[:12]}"
    assert lines[3].endswith("1 problem.")
    done = run("verify", "--json")
    assert done.status == 1
    assert f'"object": "{key}"' in done.out
    # The records are sound, and the first commit has no data.
    assert run("verify", "--level", "records").status == 0
    assert run("verify", "main~1").status == 0


def test_what_a_partial_clone_lacks_is_said_and_no_problem(run: Run, repo: Path, committed: str) -> None:
    assert run("clone", "repo", "copy").status == 0
    done = run("-r", "copy", "verify")
    assert done.status == 0
    assert done.out.endswith("All well. Not in this clone, and not checked: 1 chunk.\n")


@pytest.mark.parametrize(
    "args",
    [
        ["--sample", "many"],
        ["--sample", "-1"],
        ["--sample", "200%"],
        ["--sample", "1", "--level", "refs"],
        ["--level", "some"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_wrong_usage(run: Run, repo: Path, args: list[str]) -> None:
    assert "fault of hangarlake" not in one_line(run("verify", *args), 2)


def test_messages_that_advise_to_run_verify_name_the_command(
    run: Run, repo: Path, committed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (parent,) = run("log", "--json", "main~1").json
    path = repo / "commits" / parent["id"][:2] / f"{parent['id']}.json"
    path.unlink()
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "another machine"))
    assert "run `hangarlake verify`" in one_line(run("log"), 3)
    done = run("verify", "--level", "records")
    assert done.status == 1
    assert done.out.split()[:2] == ["missing", path.relative_to(repo).as_posix()]
