# One repository in a bucket of its own, read by a group, written by CI.

terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
}

variable "project" {
  description = "Project in which everything is created."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket, of which there can be only one in the world."
  type        = string
}

variable "readers" {
  description = "A group that may read, such as «group:readers@example.org»."
  type        = string
}

variable "github_repository" {
  description = "OWNER/NAME of the repository on GitHub whose main branch may commit."
  type        = string
  default     = "my-org/my-repo"
}

provider "google" {
  project = var.project
}

module "repository" {
  source = "../../gcp"

  project  = var.project
  location = "europe-west3"
  bucket   = var.bucket
  prefix   = "digits"

  members = { reader = [var.readers] }
  github  = { repository = var.github_repository }
}

output "repository_url" {
  value = module.repository.repository_url
}

output "environment" {
  value = module.repository.environment
}

output "service_accounts" {
  value = module.repository.service_accounts
}

output "github_provider" {
  value = module.repository.github_provider
}
