# Who may do what. In Cloud Storage replacing an object takes the right to delete it (storage.objects.delete), and there is no
# condition on request headers. So what is create-only is what nobody may delete: without that right every upload to an existing
# name is refused, whatever its headers say. The consequence is that a writer, who may replace data objects and hints, may also
# delete them; soft delete brings them back. Branch logs and the marker are out of everybody's reach.

locals {
  access = toset(["reader", "writer", "maintainer"])

  objects = "projects/_/buckets/${var.bucket}/objects/${local.folder}"

  # Written again with the same bytes, or as a best effort.
  replaceable = ["hints/", "commits/", "catalogs/", "trees/", "packs/", "history/", "locations/", "probe/"]

  deletable = {
    writer     = local.replaceable
    maintainer = concat(local.replaceable, ["refs/tags/", "gc/"])
  }
}

resource "google_service_account" "access" {
  for_each = local.access

  project      = var.project
  account_id   = "${var.name}-${each.key}"
  display_name = "${title(each.key)} of the Hangarlake repository in ${var.bucket}"
}

resource "google_service_account_iam_member" "access" {
  for_each = merge([
    for access in local.access : { for member in var.members[access] : "${access} ${member}" => { access = access, member = member } }
  ]...)

  service_account_id = google_service_account.access[each.value.access].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value.member
}

resource "google_project_iam_custom_role" "read" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_read"
  title       = "Hangarlake: read"
  permissions = ["storage.objects.get", "storage.objects.list"]
}

resource "google_project_iam_custom_role" "create" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_create"
  title       = "Hangarlake: create objects"
  permissions = ["storage.objects.create"]
}

resource "google_project_iam_custom_role" "delete" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_delete"
  title       = "Hangarlake: replace or delete objects"
  permissions = ["storage.objects.delete"]
}

# Listing is asked of the bucket, so a condition on names of objects would refuse it.
resource "google_storage_bucket_iam_member" "read" {
  for_each = local.access

  bucket = google_storage_bucket.repository.name
  role   = google_project_iam_custom_role.read.id
  member = google_service_account.access[each.key].member
}

resource "google_storage_bucket_iam_member" "create" {
  for_each = toset(["writer", "maintainer"])

  bucket = google_storage_bucket.repository.name
  role   = google_project_iam_custom_role.create.id
  member = google_service_account.access[each.key].member

  condition {
    title      = "in the repository"
    expression = "resource.name.startsWith(\"${local.objects}\")"
  }
}

resource "google_storage_bucket_iam_member" "delete" {
  for_each = local.deletable

  bucket = google_storage_bucket.repository.name
  role   = google_project_iam_custom_role.delete.id
  member = google_service_account.access[each.key].member

  condition {
    title      = "neither branch logs nor the marker"
    expression = join(" || ", [for folder in each.value : "resource.name.startsWith(\"${local.objects}${folder}\")"])
  }
}
