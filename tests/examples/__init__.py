"""Tests of the examples: each runs, and leaves nothing behind."""
