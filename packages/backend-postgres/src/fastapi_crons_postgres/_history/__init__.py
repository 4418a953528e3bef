"""The history of runs in tables: how it is written, asked for, counted, cut back and told of."""
