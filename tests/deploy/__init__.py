"""What operators copy: it is what it says, and it runs."""
