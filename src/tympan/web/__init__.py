"""The web UI: files that a browser loads, and that use the public API like any other client."""
