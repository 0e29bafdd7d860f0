"""The routes of jobs and batches."""
