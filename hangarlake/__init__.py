"""Hangarlake: git for array data, on any bucket, with no server."""
