"""A cluster of real processes on real servers."""
