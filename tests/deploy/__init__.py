"""Tests of what runs Hangarlake elsewhere: compose, Terraform, workflows, other S3 servers."""
