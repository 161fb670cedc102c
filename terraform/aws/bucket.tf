# The bucket: encrypted, private, reached over TLS only, its refs create-only.

locals {
  folder = var.prefix == "" ? "" : "${var.prefix}/"

  # What the templates in policies/ are filled with. The tests fill the same files with the same names.
  arns = {
    bucket_arn = aws_s3_bucket.repository.arn
    root_arn   = "${aws_s3_bucket.repository.arn}/${local.folder}"
  }
}

resource "aws_s3_bucket" "repository" {
  bucket        = var.bucket
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket_ownership_controls" "repository" {
  bucket = aws_s3_bucket.repository.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "repository" {
  bucket                  = aws_s3_bucket.repository.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "repository" {
  bucket = aws_s3_bucket.repository.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# A writer cannot delete, but it can overwrite data objects. Readers notice, for every object is checked against its name;
# versions bring the object back.
resource "aws_s3_bucket_versioning" "repository" {
  bucket = aws_s3_bucket.repository.id

  versioning_configuration {
    status = var.keep_replaced_days > 0 ? "Enabled" : "Suspended"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "repository" {
  bucket = aws_s3_bucket.repository.id

  rule {
    id     = "abort-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = var.abort_uploads_after_days
    }
  }

  # The test of whether the store can create if absent leaves an object that a writer has no right to remove.
  rule {
    id     = "expire-probes"
    status = "Enabled"

    filter {
      prefix = "${local.folder}probe/"
    }

    expiration {
      days = 1
    }
  }

  rule {
    id     = "expire-replaced"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = max(var.keep_replaced_days, 1)
    }
  }

  depends_on = [aws_s3_bucket_versioning.repository]
}

resource "aws_s3_bucket_policy" "repository" {
  bucket = aws_s3_bucket.repository.id
  policy = templatefile("${path.module}/policies/bucket.json.tftpl", local.arns)

  depends_on = [aws_s3_bucket_public_access_block.repository]
}
