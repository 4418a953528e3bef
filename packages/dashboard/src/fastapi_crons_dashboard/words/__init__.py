"""How things are said to people: instants, durations, fates, options and settings as texts."""
