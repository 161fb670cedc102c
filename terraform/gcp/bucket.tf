# The bucket: encrypted, private. Google's endpoints speak TLS; IAM conditions know nothing of transport.

locals {
  folder = var.prefix == "" ? "" : "${var.prefix}/"
}

resource "google_storage_bucket" "repository" {
  project                     = var.project
  name                        = var.bucket
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy
  labels                      = var.labels

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      default_kms_key_name = encryption.value
    }
  }

  soft_delete_policy {
    retention_duration_seconds = var.keep_deleted_days * 86400
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = var.abort_uploads_after_days
    }
  }

  # The test of whether the store can create if absent may leave an object behind.
  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      age            = 1
      matches_prefix = ["${local.folder}probe/"]
    }
  }
}
