# One repository in a bucket of its own, readable by a second account, written by CI.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.86, < 7.0"
    }
  }
}

variable "region" {
  description = "Where the bucket is to be."
  type        = string
  default     = "eu-central-1"
}

variable "bucket" {
  description = "Name of the bucket, of which there can be only one in the world."
  type        = string
}

variable "github_repository" {
  description = "OWNER/NAME of the repository on GitHub whose main branch may commit."
  type        = string
  default     = "my-org/my-repo"
}

variable "reader_accounts" {
  description = "Accounts whose principals may read."
  type        = list(string)
  default     = []
}

provider "aws" {
  region = var.region
}

module "repository" {
  source = "../../aws"

  bucket = var.bucket
  prefix = "digits"

  trusted_principals = {
    reader = [for account in var.reader_accounts : "arn:aws:iam::${account}:root"]
  }

  github = {
    subjects = ["repo:${var.github_repository}:ref:refs/heads/main"]
  }
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
