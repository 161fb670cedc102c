"""Terraform where it is to be had without a network: the program, and providers in folders of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2] / "terraform"
# Names a folder of providers, laid out as Terraform lays out a file system mirror. Otherwise its own configuration is asked.
VARIABLE = "HANGARLAKE_TERRAFORM_PROVIDERS"


def program() -> str:
    """Return the path of the program; skip the test where there is none."""
    found = shutil.which("terraform")
    if found is None:
        pytest.skip("there is no terraform on the PATH")
    return found


def providers(name: str) -> Path:
    """Return a folder that holds a provider of HashiCorp's; skip the test where none does. Nothing is downloaded."""
    for folder in _mirrors():
        if any((folder / "registry.terraform.io" / "hashicorp" / name).glob("*")):
            return folder
    pytest.skip(
        f"Terraform's provider {name!r} is not on this machine: name a mirror in Terraform's CLI configuration "
        f"(provider_installation, filesystem_mirror), or a folder of providers in {VARIABLE}"
    )


def _mirrors() -> Iterator[Path]:
    if named := os.environ.get(VARIABLE):
        yield Path(named).resolve()
    configuration = Path(os.environ.get("TF_CLI_CONFIG_FILE") or Path.home() / ".terraformrc")
    if configuration.is_file():
        text = re.sub(r"(?m)^\s*(#|//).*$", "", configuration.read_text("utf-8"))
        for block in re.findall(r"filesystem_mirror\s*\{(.*?)\}", text, re.DOTALL):
            yield from (Path(path) for path in re.findall(r'(?m)^\s*path\s*=\s*"([^"]+)"', block))
    # Where Terraform looks by itself.
    yield Path.home() / ".terraform.d" / "plugins"
    for data in os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":"):
        yield Path(data) / "terraform" / "plugins"


class Terraform:
    """Terraform in a folder of the test's own, with providers from one place on this machine and no network."""

    def __init__(self, folder: Path, mirror: Path) -> None:
        self.folder = folder
        self._program = program()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
        }
        self.run("init", "-backend=false", f"-plugin-dir={mirror}")

    def run(self, *arguments: str) -> str:
        """Run a command, and return what it printed."""
        command = [self._program, f"-chdir={self.folder}", arguments[0], "-no-color", *arguments[1:]]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"terraform {arguments[0]} failed:\n{done.stdout}{done.stderr}"
        return done.stdout

    def outputs(self) -> dict[str, Any]:
        """Return the values of all outputs."""
        return {name: output["value"] for name, output in json.loads(self.run("output", "-json")).items()}


def copied(to: Path) -> Path:
    """Copy the configuration, so that nothing of Terraform's is left in the source tree."""
    return Path(shutil.copytree(ROOT, to / "terraform", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*")))
