"""From media bytes to windows of speech: decode, find speech, pack."""
