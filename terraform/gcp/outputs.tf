output "repository_url" {
  description = "What hangarlake commands and Repository.open take."
  value       = var.prefix == "" ? "gs://${google_storage_bucket.repository.name}" : "gs://${google_storage_bucket.repository.name}/${var.prefix}"
}

output "environment" {
  description = "Environment variables for whoever works with the repository. Credentials come from the service accounts."
  value = {
    HANGARLAKE_REPO      = var.prefix == "" ? "gs://${google_storage_bucket.repository.name}" : "gs://${google_storage_bucket.repository.name}/${var.prefix}"
    GOOGLE_CLOUD_PROJECT = var.project
  }
}

output "bucket" {
  description = "The name of the bucket."
  value       = google_storage_bucket.repository.name
}

output "service_accounts" {
  description = "The addresses of reader, writer and maintainer."
  value       = { for access, account in google_service_account.access : access => account.email }
}

output "github_provider" {
  description = "What google-github-actions/auth takes as workload_identity_provider; null without `github`."
  value       = one(google_iam_workload_identity_pool_provider.github[*].name)
}
