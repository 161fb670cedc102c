# Who may do what: three roles, whose rights stand in policies/ and are tested against the requests that Hangarlake makes.

locals {
  access = toset(["reader", "writer", "maintainer"])
  name   = coalesce(var.name, var.bucket)

  policies = { for access in local.access : access => templatefile("${path.module}/policies/${access}.json.tftpl", local.arns) }

  # Encrypted objects are read and written with the key.
  key_actions = {
    reader     = ["kms:Decrypt"]
    writer     = ["kms:Decrypt", "kms:GenerateDataKey"]
    maintainer = ["kms:Decrypt", "kms:GenerateDataKey"]
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

resource "aws_iam_role" "access" {
  for_each = local.access

  name        = "${local.name}-${each.key}"
  description = "${title(each.key)} of the Hangarlake repository in ${var.bucket}"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect = "Allow"
      Action = "sts:AssumeRole"
      Principal = {
        AWS = (
          length(var.trusted_principals[each.key]) > 0
          ? var.trusted_principals[each.key]
          : ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
        )
      }
    }]
  })
}

resource "aws_iam_role_policy" "access" {
  for_each = local.access

  name   = "repository"
  role   = aws_iam_role.access[each.key].id
  policy = local.policies[each.key]
}

resource "aws_iam_role_policy" "key" {
  for_each = var.kms_key_arn == null ? toset([]) : local.access

  name = "key"
  role = aws_iam_role.access[each.key].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = local.key_actions[each.key], Resource = var.kms_key_arn }]
  })
}
