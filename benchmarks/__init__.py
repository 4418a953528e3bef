"""Benchmarks: what a run costs, beside bare asyncio, APScheduler and docket, measured in one go: `python -m benchmarks`.

`contenders` says what is compared, `load` what each is given to do, `measures` what is measured of it, `suite` what is
measured in which order, `results` how the figures are kept, `report` what they mean beside our goals, and `plot` draws them.
"""
