"""Tests of the documentation: its code runs, its output is what is printed, its references are current."""
