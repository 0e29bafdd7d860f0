"""Windows of many requests, answered in batches by one engine in a supervised process."""
