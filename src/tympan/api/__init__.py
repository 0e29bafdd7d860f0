"""The HTTP surface: wire shapes, admission and error statuses over the pipeline."""
