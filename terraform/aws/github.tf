# GitHub Actions gets short-lived credentials for the token of its run; no key is stored anywhere.

locals {
  github_issuer       = "token.actions.githubusercontent.com"
  github_provider_arn = var.github_oidc_provider_arn != null ? var.github_oidc_provider_arn : one(aws_iam_openid_connect_provider.github[*].arn)
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.github != null && var.github_oidc_provider_arn == null ? 1 : 0

  url            = "https://${local.github_issuer}"
  client_id_list = ["sts.amazonaws.com"]
  tags           = var.tags
}

resource "aws_iam_role" "github" {
  count = var.github == null ? 0 : 1

  name        = "${local.name}-github"
  description = "GitHub Actions as ${var.github.access} of the Hangarlake repository in ${var.bucket}"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = local.github_provider_arn }
      Condition = {
        StringEquals = { "${local.github_issuer}:aud" = "sts.amazonaws.com" }
        StringLike   = { "${local.github_issuer}:sub" = var.github.subjects }
      }
    }]
  })
}

resource "aws_iam_role_policy" "github" {
  count = var.github == null ? 0 : 1

  name   = "repository"
  role   = aws_iam_role.github[0].id
  policy = local.policies[var.github.access]
}

resource "aws_iam_role_policy" "github_key" {
  count = var.github == null || var.kms_key_arn == null ? 0 : 1

  name = "key"
  role = aws_iam_role.github[0].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = local.key_actions[var.github.access], Resource = var.kms_key_arn }]
  })
}
