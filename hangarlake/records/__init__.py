"""Book-keeping: trees, catalogs, commits, refs, history."""
