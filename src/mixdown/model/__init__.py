"""What a record means: updates, operators, limits, texts. Pure: no clock, no I/O."""
