"""The commands that show what has happened: `logs`, `why`, `runs`, `missed`, `stats`."""
