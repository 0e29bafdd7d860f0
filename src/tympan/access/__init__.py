"""Who may do what, and how much: API keys, what they allow, who calls, the log of it; limits, and what was used."""
