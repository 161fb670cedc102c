"""docker-compose.yml and what it uses: valid, pinned, without secrets, watched over; and its scripts do what they are there for.

No Docker is needed: nothing is started.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

import hangarlake as hl
from hangarlake.storage import open_store
from hangarlake.testing.servers import GcsEmulator, MotoServer

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEFAULTS = dict(
    line.split("=", 1)
    for line in (ROOT / ".env.example").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
)
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::[-?](?P<default>[^}]*))?\}")


def needs(name: str) -> dict[str, str]:
    """Return the services that a service waits for, and for what."""
    return {other: each["condition"] for other, each in SERVICES[name].get("depends_on", {}).items()}


def is_one_shot(name: str) -> bool:
    """Whether a service does its work and ends: nobody reaches it, nobody waits for it but for its end."""
    service = SERVICES[name]
    waited_for = {needs(other)[name] for other in SERVICES if name in needs(other)}
    return (
        service.get("restart") == "no" and "ports" not in service and waited_for <= {"service_completed_successfully"}
    )


def test_the_file_follows_the_compose_specification() -> None:
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text("utf-8"))
    problems = [
        f"{error.json_path}: {error.message}"
        for error in jsonschema.validators.validator_for(schema)(schema).iter_errors(COMPOSE)
    ]
    assert problems == []


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    if "build" in SERVICES[name]:
        # What is built here is never pulled, because no registry has it.
        assert (image, tag) == ("hangarlake", "local")
    else:
        assert image
        assert re.search(r"\d+[.-]\d+", tag)
    assert "latest" not in SERVICES[name]["image"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_or_ends_by_itself(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) != is_one_shot(name)
    for other, condition in needs(name).items():
        assert condition == (
            "service_healthy" if "healthcheck" in SERVICES[other] else "service_completed_successfully"
        )
        # What is waited for starts whenever this does.
        assert set(SERVICES[other].get("profiles", [])) <= set(SERVICES[name].get("profiles", []))


@pytest.mark.parametrize("name", SERVICES)
def test_there_are_no_secrets(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"SECRET|PASSWORD|KEY|TOKEN|_USER$", variable):
            match = VARIABLE.fullmatch(value.split(":?")[0] + "}" if ":?" in value else value)
            assert match is not None, f"{variable} is written out"
            assert match["default"] is None, f"{variable} has a default outside .env.example"
    assert "env_file" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_published_beyond_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_the_example_of_an_environment_names_every_variable_and_no_other() -> None:
    used = {match["name"]: match["default"] for match in VARIABLE.finditer((ROOT / "docker-compose.yml").read_text())}
    assert set(used) == set(DEFAULTS)
    for match in VARIABLE.finditer((ROOT / "docker-compose.yml").read_text("utf-8")):
        if match[0].split(match["name"])[1].startswith(":-"):
            assert match["default"] == DEFAULTS[match["name"]]


def test_the_real_environment_is_not_under_version_control() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    assert subprocess.run(["git", "ls-files", ".env"], cwd=ROOT, capture_output=True, check=True).stdout == b""


def test_what_was_promised_is_there() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles["minio"] == profiles["demo"] == profiles["scheduler"] == profiles["worker"] == []
    assert profiles["rustfs"] == profiles["rustfs-demo"] == ["rustfs"]
    assert profiles["gcs"] == profiles["gcs-demo"] == ["gcs"]
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    for name in ("demo", "rustfs-demo", "gcs-demo"):
        command, url = SERVICES[name]["command"]
        assert command == "demo"
        assert url.startswith("gs://" if name == "gcs-demo" else "s3://")
    assert "bucket" in needs("demo")


def test_make_runs_services_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = re.search(r"(?m)^DEMO \?= (.+)$", makefile)
    assert named is not None
    assert set(named[1].split()) <= set(SERVICES)


# ---- the image -----------------------------------------------------------------------------------------------------------

INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def test_the_image_is_built_in_stages_from_pinned_ones_and_is_not_root() -> None:
    bases = [rest.split()[0] for word, rest in INSTRUCTIONS if word == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases)
    last = [word for word, _ in INSTRUCTIONS].index("FROM", 1)
    users = [rest for word, rest in INSTRUCTIONS[last:] if word == "USER"]
    assert users
    assert users[-1].isdigit()
    assert users[-1] != "0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    python = bases[0].split(":")[1].rsplit(".", 1)[0]
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
    (extras,) = (re.search(r'"\.\[([\w,]+)\]"', rest) for word, rest in INSTRUCTIONS if word == "RUN" and "pip" in rest)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])


def test_what_the_image_copies_exists_and_is_in_the_context() -> None:
    context = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for word, rest in INSTRUCTIONS
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == context
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("name", SERVICES)
def test_scripts_of_services_are_in_the_image(name: str) -> None:
    for argument in SERVICES[name].get("entrypoint", []):
        if argument.endswith(".py"):
            folder, _, script = argument.rpartition("/")
            assert folder == "/opt/hangarlake/share"
            assert (ROOT / "docker" / script).is_file()


# ---- the scripts ---------------------------------------------------------------------------------------------------------


def script(name: str, *arguments: str, **environment: str) -> str:
    """Run a script as a service does: the command line and the environment are all it knows."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docker" / name), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_bucket_is_created_in_s3_once(moto_server: MotoServer) -> None:
    environment = {
        "AWS_ENDPOINT_URL": moto_server.endpoint,
        "AWS_ACCESS_KEY_ID": moto_server.key,
        "AWS_SECRET_ACCESS_KEY": moto_server.secret,
        "AWS_REGION": "us-east-1",
    }
    assert script("create_bucket.py", "s3://made-by-compose", **environment) == "s3://made-by-compose: created\n"
    assert script("create_bucket.py", "s3://made-by-compose", **environment) == "s3://made-by-compose: was there\n"
    store = open_store("s3://made-by-compose/a", moto_server.storage_options)
    assert store.put_new("x", b"1")


def test_a_bucket_is_created_in_gcs_once(gcs_emulator: GcsEmulator) -> None:
    environment = {"STORAGE_EMULATOR_HOST": gcs_emulator.endpoint, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    assert script("create_bucket.py", "gs://made-by-compose", **environment) == "gs://made-by-compose: created\n"
    assert script("create_bucket.py", "gs://made-by-compose", **environment) == "gs://made-by-compose: was there\n"
    store = open_store("gs://made-by-compose/a", gcs_emulator.storage_options)
    store.put("x", b"1")
    assert store.get("x") == b"1"


def test_the_workers_of_a_cluster_read_everything_between_them(
    s3_url: str, s3_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_options["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_options["secret"])
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.syspath_prepend(ROOT / "docker")
    import read_on_cluster

    repo = hl.Repository.create(s3_url, author="Ada <ada@example.org>")
    images = np.arange(400, dtype="uint8").reshape(100, 2, 2)
    with repo.checkout("main", write=True, staging="memory") as w:
        w.add_ndarray_column("images", shape=(2, 2), dtype="uint8").extend([f"{i:04d}" for i in range(100)], images)
        w.commit("Add images")
    repo.create_tag("v1")
    repo.close()
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="inproc"
    )
    with cluster, distributed.Client(cluster) as client:
        workers, count, mean = read_on_cluster.read(client, s3_url, parts=8)
    assert workers in (1, 2)
    assert (count, mean) == (100, images.sum() / 100)
