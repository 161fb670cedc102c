"""The storage port and its engines: immutable bytes under keys, in any bucket."""
