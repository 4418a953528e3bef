"""Benchmarks: what a run costs, beside bare asyncio and beside APScheduler, measured in one go."""
