"""Sample columns."""
