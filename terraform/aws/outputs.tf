output "repository_url" {
  description = "What hangarlake commands and Repository.open take."
  value       = var.prefix == "" ? "s3://${aws_s3_bucket.repository.bucket}" : "s3://${aws_s3_bucket.repository.bucket}/${var.prefix}"
}

output "environment" {
  description = "Environment variables for whoever works with the repository. Credentials come from the roles."
  value = {
    HANGARLAKE_REPO = var.prefix == "" ? "s3://${aws_s3_bucket.repository.bucket}" : "s3://${aws_s3_bucket.repository.bucket}/${var.prefix}"
    AWS_REGION      = aws_s3_bucket.repository.region
  }
}

output "bucket" {
  description = "The name of the bucket."
  value       = aws_s3_bucket.repository.bucket
}

output "role_arns" {
  description = "The roles: reader, writer, maintainer."
  value       = { for access, role in aws_iam_role.access : access => role.arn }
}

output "github_role_arn" {
  description = "What aws-actions/configure-aws-credentials takes as role-to-assume; null without `github`."
  value       = one(aws_iam_role.github[*].arn)
}
