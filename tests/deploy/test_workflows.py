"""The GitHub workflows: valid, least privileged, pinned, and in step with pyproject.toml and the Makefile."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def workflow(path: Path) -> dict[str, Any]:
    """Return a workflow. YAML 1.1 reads its “on” as true."""
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return {"on" if name is True else name: value for name, value in loaded.items()}


WORKFLOWS = {path.stem: workflow(path) for path in FILES}
JOBS = {f"{name}/{job}": each for name, file in WORKFLOWS.items() for job, each in file["jobs"].items()}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_follows_its_schema(name: str) -> None:
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "github-workflows.json").read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(WORKFLOWS[name])] == []


def test_the_tests_run_on_every_version_that_is_promised() -> None:
    promised = [
        match[1] for each in PROJECT["classifiers"] if (match := re.fullmatch(r".*:: Python :: (3\.\d+)", each))
    ]
    assert WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_the_jobs_that_were_promised_are_there() -> None:
    assert {"ci/lint", "ci/test", "ci/docs", "release/build", "release/publish"} <= set(JOBS)
    commands = [step.get("run", "") for step in JOBS["ci/docs"]["steps"]]
    assert any("mkdocs build --strict" in command for command in commands)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_may_read_the_repository_and_no_more(name: str) -> None:
    file, _, _ = name.partition("/")
    assert WORKFLOWS[file]["permissions"] == {"contents": "read"}
    allowed = {"id-token": "write"} if name == "release/publish" else None
    assert JOBS[name].get("permissions") == allowed
    assert JOBS[name]["timeout-minutes"] <= 60


@pytest.mark.parametrize("name", JOBS)
def test_actions_are_pinned_to_a_major_version(name: str) -> None:
    for step in JOBS[name]["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_is_used_and_no_expression_is_pasted_into_a_script(path: Path) -> None:
    assert "secrets." not in path.read_text("utf-8")
    for job in workflow(path)["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "pass it by env: a script is no place for what others may write"


def test_only_the_release_publishes_and_only_for_tags() -> None:
    publishing = {
        name for name, job in JOBS.items() if any("pypi-publish" in step.get("uses", "") for step in job["steps"])
    }
    assert publishing == {"release/publish"}
    assert WORKFLOWS["release"]["on"] == {"push": {"tags": ["v*"]}}
    assert JOBS["release/publish"]["environment"]["name"] == "pypi"


def test_make_has_the_targets_that_jobs_call() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("$(STAMPS)", ".venv/stamps")
    called = {
        target
        for job in JOBS.values()
        for step in job["steps"]
        for target in re.findall(r"(?m)^make (\S+)", step.get("run", ""))
    }
    assert called >= {"lint", "test", "compose-demo"}
    for target in called:
        assert re.search(rf"(?m)^{re.escape(target)}:", makefile), target


def test_services_and_paths_that_jobs_name_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    demos = WORKFLOWS["ci"]["jobs"]["compose"]["strategy"]["matrix"]["demo"]
    assert {service for demo in demos for service in demo.split()} <= set(services)
    ports = dict(line.split("=") for line in (ROOT / ".env.example").read_text().splitlines() if "_PORT=" in line)
    for each in WORKFLOWS["ci"]["jobs"]["s3"]["strategy"]["matrix"]["include"]:
        assert {each["server"], each["bucket"]} <= set(services)
        assert ports[f"{each['server'].upper()}_PORT"] == each["port"]
    for job in JOBS.values():
        for step in job["steps"]:
            for path in re.findall(r"\btests/[\w./]+", step.get("run", "")):
                assert (ROOT / path).exists(), path
