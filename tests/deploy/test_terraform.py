"""The Terraform modules: well-formed everywhere, valid where their provider is, and on AWS's side applied to moto and used."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

import hangarlake as hl
from hangarlake.testing.servers import MotoServer
from tests.deploy.guarded import GuardedServer
from tests.deploy.policies import ROLES, policy
from tests.deploy.terraform import ROOT, Terraform, copied, program, providers

MODULES = {"aws": "aws", "gcp": "google", "examples/aws": "aws", "examples/gcp": "google"}

BUCKET = "applied-by-terraform"
FOLDER = "team/digits/"

# The module as an account would use it, but for the addresses of the services.
APPLIED = """
provider "aws" {
  region                      = "us-east-1"
  access_key                  = "testing"
  secret_key                  = "testing-secret"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true

  endpoints {
    iam = "ENDPOINT"
    s3  = "ENDPOINT"
    sts = "ENDPOINT"
  }
}

module "repository" {
  source             = "./aws"
  bucket             = "applied-by-terraform"
  prefix             = "team/digits"
  force_destroy      = true
  trusted_principals = { reader = ["arn:aws:iam::123456789012:root"] }
  github             = { subjects = ["repo:my-org/my-repo:ref:refs/heads/main"] }
}

output "repository_url" {
  value = module.repository.repository_url
}

output "environment" {
  value = module.repository.environment
}

output "role_arns" {
  value = module.repository.role_arns
}

output "github_role_arn" {
  value = module.repository.github_role_arn
}
"""


def test_the_configuration_is_formatted() -> None:
    done = subprocess.run(
        [program(), "fmt", "-check", "-diff", "-recursive", str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_and_example_is_in_the_list_above() -> None:
    assert {str(path.parent.relative_to(ROOT)) for path in ROOT.rglob("*.tf")} == set(MODULES)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.tf")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_and_output_is_described(path: Path) -> None:
    if "examples" in path.parts:
        return
    for block in path.read_text("utf-8").split("\n}"):
        if block.lstrip().startswith(("variable ", "output ")):
            assert "\n  description = " in block, block


@pytest.mark.parametrize("module", MODULES)
def test_the_configuration_is_valid(module: str, tmp_path: Path) -> None:
    mirror = providers(MODULES[module])
    answer = json.loads(Terraform(copied(tmp_path) / module, mirror).run("validate", "-json"))
    assert answer["diagnostics"] == []


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MotoServer, Terraform]]:
    """The AWS module, applied to moto; and in the end destroyed, data and all."""
    mirror = providers("aws")
    folder = copied(tmp_path_factory.mktemp("applied"))
    with MotoServer() as server:
        (folder / "main.tf").write_text(APPLIED.replace("ENDPOINT", server.endpoint), "utf-8")
        terraform = Terraform(folder, mirror)
        terraform.run("apply", "-auto-approve")
        yield server, terraform
        terraform.run("destroy", "-auto-approve", "-refresh=false")
        client = aws(server, "s3")
        assert BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}


def aws(server: MotoServer, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
    )


def installed_policies(server: MotoServer, terraform: Terraform) -> dict[str, Any]:
    """Read back what Terraform installed: the policy of each role, and the bucket's."""
    client = aws(server, "iam")
    found = {
        role: client.get_role_policy(RoleName=arn.rpartition("/")[2], PolicyName="repository")["PolicyDocument"]
        for role, arn in terraform.outputs()["role_arns"].items()
    }
    return found | {"bucket": json.loads(aws(server, "s3").get_bucket_policy(Bucket=BUCKET)["Policy"])}


def test_the_bucket_is_private_encrypted_and_tidied(applied: tuple[MotoServer, Terraform]) -> None:
    client = aws(applied[0], "s3")
    bucket = {"Bucket": BUCKET}
    assert set(client.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    encryption = client.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert [rule["ApplyServerSideEncryptionByDefault"] for rule in encryption] == [{"SSEAlgorithm": "AES256"}]
    assert client.get_bucket_versioning(**bucket)["Status"] == "Enabled"
    rules = {rule["ID"]: rule for rule in client.get_bucket_lifecycle_configuration(**bucket)["Rules"]}
    assert rules["abort-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rules["expire-probes"]["Filter"] == {"Prefix": f"{FOLDER}probe/"}
    assert rules["expire-probes"]["Expiration"]["Days"] == 1
    assert rules["expire-replaced"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30


def test_what_is_installed_are_the_policies_that_are_tested(applied: tuple[MotoServer, Terraform]) -> None:
    server, terraform = applied
    assert installed_policies(server, terraform) == {name: policy(name, BUCKET, FOLDER) for name in (*ROLES, "bucket")}
    client = aws(server, "iam")
    names = {role: arn.rpartition("/")[2] for role, arn in terraform.outputs()["role_arns"].items()}
    names["github"] = terraform.outputs()["github_role_arn"].rpartition("/")[2]
    for name in names.values():
        assert client.list_role_policies(RoleName=name)["PolicyNames"] == ["repository"]
    github = client.get_role_policy(RoleName=names["github"], PolicyName="repository")["PolicyDocument"]
    assert github == policy("writer", BUCKET, FOLDER), "GitHub Actions has the rights of a writer unless told otherwise"


def test_only_runs_of_the_named_repository_may_assume_the_role_for_github(
    applied: tuple[MotoServer, Terraform],
) -> None:
    name = applied[1].outputs()["github_role_arn"].rpartition("/")[2]
    (statement,) = aws(applied[0], "iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    issuer = "token.actions.githubusercontent.com"
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Principal"]["Federated"].endswith(f":oidc-provider/{issuer}")
    assert statement["Condition"] == {
        "StringEquals": {f"{issuer}:aud": "sts.amazonaws.com"},
        "StringLike": {f"{issuer}:sub": ["repo:my-org/my-repo:ref:refs/heads/main"]},
    }


def test_a_repository_lives_in_the_bucket_under_the_policies_that_were_installed(
    applied: tuple[MotoServer, Terraform], tmp_path: Path
) -> None:
    server, terraform = applied
    outputs = terraform.outputs()
    url = outputs["repository_url"]
    assert url == f"s3://{BUCKET}/{FOLDER}".rstrip("/")
    assert outputs["environment"] == {"HANGARLAKE_REPO": url, "AWS_REGION": "us-east-1"}
    installed = installed_policies(server, terraform)
    # moto reads bucket policies without their conditions, and would refuse everything. The guard reads them whole.
    aws(server, "s3").delete_bucket_policy(Bucket=BUCKET)
    with GuardedServer(installed=(BUCKET, FOLDER, installed)) as guarded:
        options = guarded.options("writer", "obstore")
        repo = hl.Repository.create(
            url, storage_options=options, author="Ada <ada@example.org>", cache_dir=tmp_path / "cache"
        )
        with repo.checkout("main", write=True) as w:
            w.add_ndarray_column("images", shape=(8, 8), dtype="uint8").extend(range(50), np.ones((50, 8, 8), "uint8"))
            commit = w.commit("Add images")
        repo.close()
        reader = guarded.options("reader", "obstore")
        with hl.Repository.open(url, storage_options=reader).checkout(commit.id) as seen:
            assert seen["images"].batch([0, 49]).sum() == 128
        assert {key.partition("/")[0] for _, _, key in guarded.denied()} <= {"probe"}


def test_what_may_be_chosen_is_planned_and_a_subject_that_is_too_wide_is_refused(tmp_path: Path) -> None:
    mirror = providers("aws")
    folder = copied(tmp_path)
    account = "arn:aws:iam::123456789012"
    chosen = (
        "keep_replaced_days = 0",
        'kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/some"',
        f'github_oidc_provider_arn = "{account}:oidc-provider/token.actions.githubusercontent.com"',
        'github = { subjects = ["SUBJECT"], access = "reader" }',
    )
    with MotoServer() as server:
        text = APPLIED.replace("ENDPOINT", server.endpoint)
        text = re.sub(r"(?m)^  (prefix|github|trusted_principals) .*$", "", text)
        text = text.replace("force_destroy      = true", "\n  ".join(chosen))
        (folder / "main.tf").write_text(text.replace("SUBJECT", "repo:my-org/my-repo:pull_request"), "utf-8")
        terraform = Terraform(folder, mirror)
        plan = terraform.run("plan")
        assert "aws_s3_bucket_versioning" in plan
        assert '"Suspended"' in plan
        assert plan.count('.aws_iam_role_policy.key["') == 3
        assert "aws_iam_role_policy.github_key[0] will be created" in plan
        assert "aws_iam_openid_connect_provider" not in plan
        assert '"s3://applied-by-terraform"' in plan
        (folder / "main.tf").write_text(text.replace("SUBJECT", "repo:my-org/*:pull_request"), "utf-8")
        with pytest.raises(AssertionError, match="names its repository in full"):
            terraform.run("plan")
