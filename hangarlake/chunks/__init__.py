"""Chunks: arrays encoded by Zarr v3 codecs, gathered in packs, verified and cached when they are read."""
