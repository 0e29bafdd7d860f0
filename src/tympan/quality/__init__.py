"""How good the transcripts are: word errors of golden sets, what live traffic tells, alarms about both."""

TOLERANCE_POINTS = 0.5
"""By how many percentage points of word errors a golden set may get worse, unless an operator says otherwise."""
