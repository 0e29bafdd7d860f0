"""Jobs that cannot be lost: hand in, work off, announce, clean up."""
