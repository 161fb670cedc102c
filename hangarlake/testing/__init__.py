"""Test aids that third parties may use: conformance suites, fault injection, servers."""
