"""A request on its way through: its body is kept, metered and handed to the pipeline."""
