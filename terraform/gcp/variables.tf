variable "project" {
  description = "Project in which everything is created."
  type        = string
}

variable "location" {
  description = "Location of the bucket: a region, or a dual or multi-region."
  type        = string
}

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
  description = "What the names of service accounts and roles begin with: 4 to 17 lower-case letters, digits and dashes."
  type        = string
  default     = "hangarlake"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{3,16}$", var.name))
    error_message = "4 to 17 lower-case letters, digits and dashes, a letter first: service accounts have names of 30 characters at most."
  }
}

variable "members" {
  description = "Who may act as each service account, as IAM members such as «group:readers@example.org»."
  type = object({
    reader     = optional(list(string), [])
    writer     = optional(list(string), [])
    maintainer = optional(list(string), [])
  })
  default = {}
}

variable "github" {
  description = <<-EOT
    Lets GitHub Actions in without stored keys: `repository` is OWNER/NAME, `ref` the only ref whose runs are let in,
    `access` the service account that they act as.
  EOT
  type = object({
    repository = string
    ref        = optional(string, "refs/heads/main")
    access     = optional(string, "writer")
  })
  default = null

  validation {
    condition     = var.github == null ? true : can(regex("^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", var.github.repository)) && can(regex("^refs/[A-Za-z0-9_./-]+$", var.github.ref))
    error_message = "repository is OWNER/NAME, and ref begins with refs/."
  }

  validation {
    condition     = var.github == null ? true : contains(["reader", "writer", "maintainer"], var.github.access)
    error_message = "access is one of reader, writer and maintainer."
  }
}

variable "kms_key" {
  description = "Key of Cloud KMS to encrypt objects with, which the project's storage service agent may use; Google's own keys if left out."
  type        = string
  default     = null
}

variable "keep_deleted_days" {
  description = "Days for which what was overwritten or deleted can be restored (soft delete): 0, or 7 to 90."
  type        = number
  default     = 30

  validation {
    condition     = var.keep_deleted_days == 0 || (var.keep_deleted_days >= 7 && var.keep_deleted_days <= 90)
    error_message = "0, or 7 to 90."
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

variable "labels" {
  description = "Labels of the bucket."
  type        = map(string)
  default     = {}
}
