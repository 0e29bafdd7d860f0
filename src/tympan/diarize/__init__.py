"""Who spoke when: turns of speakers in a recording, found by two small networks and clustering."""
