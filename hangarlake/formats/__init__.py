"""Import and export plugins."""
