"""How good the transcripts are: word errors of golden sets, what live traffic tells, alarms about both."""
