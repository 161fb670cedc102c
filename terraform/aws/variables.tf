variable "bucket" {
  description = "Name of the bucket to create."
  type        = string
}

variable "prefix" {
  description = "Folder of the bucket in which the repository lives, such as «datasets/digits»; the bucket itself if empty."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$", var.prefix))
    error_message = "A prefix is a relative path of letters, digits, dots, dashes and underscores, without a slash at either end."
  }
}

variable "name" {
  description = "What the names of the roles begin with; the name of the bucket if left out."
  type        = string
  default     = null
}

variable "trusted_principals" {
  description = "ARNs that may assume each role. Where a list is empty, whoever the account itself gives sts:AssumeRole on the role."
  type = object({
    reader     = optional(list(string), [])
    writer     = optional(list(string), [])
    maintainer = optional(list(string), [])
  })
  default = {}
}

variable "github" {
  description = <<-EOT
    Lets GitHub Actions in without stored keys. `subjects` are subject claims, such as «repo:my-org/my-repo:ref:refs/heads/main»;
    `access` is the role whose rights they get.
  EOT
  type = object({
    subjects = list(string)
    access   = optional(string, "writer")
  })
  default = null

  validation {
    condition     = var.github == null ? true : contains(["reader", "writer", "maintainer"], var.github.access)
    error_message = "access is one of reader, writer and maintainer."
  }

  validation {
    condition     = var.github == null ? true : length(var.github.subjects) > 0 && alltrue([for subject in var.github.subjects : can(regex("^repo:[^*/:]+/[^*/:]+:.", subject))])
    error_message = "Every subject names its repository in full: repo:OWNER/NAME:…; anything wider would let strangers in."
  }
}

variable "github_oidc_provider_arn" {
  description = "The account's identity provider for GitHub, of which there can be only one; created if left out and `github` is given."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "Key to encrypt objects with; S3's own keys (SSE-S3) if left out."
  type        = string
  default     = null
}

variable "keep_replaced_days" {
  description = "Days for which S3 keeps what was overwritten or deleted, as noncurrent versions; 0 keeps nothing."
  type        = number
  default     = 30

  validation {
    condition     = var.keep_replaced_days >= 0 && floor(var.keep_replaced_days) == var.keep_replaced_days
    error_message = "A whole number of days."
  }
}

variable "abort_uploads_after_days" {
  description = "Days after which parts of uploads that were never completed are removed."
  type        = number
  default     = 7
}

variable "force_destroy" {
  description = "Whether «terraform destroy» may remove a bucket that still holds data."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags for everything that is created."
  type        = map(string)
  default     = {}
}
