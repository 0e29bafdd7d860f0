"""Who comes in, decided before a body is read: room, predicted work, retries, live sessions."""
