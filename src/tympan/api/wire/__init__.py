"""Connections: what is bounded about them, and bytes and events on their way out."""
