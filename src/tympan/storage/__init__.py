"""What is kept: jobs in a database, audio in files or object storage."""
