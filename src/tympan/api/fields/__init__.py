"""What the fields of forms and queries mean: one table for each route, and pure functions."""
