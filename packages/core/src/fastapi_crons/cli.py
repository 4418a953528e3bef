"""`python -m fastapi_crons.cli`: hands over to the command line, which is a distribution of its own."""

import sys
from importlib.metadata import EntryPoint, entry_points

from fastapi_crons.errors import MissingDistributionError


def main() -> None:
    """Run the command line, or say in one sentence which distribution brings it."""
    try:
        command = _command()
    except MissingDistributionError as error:
        sys.exit(str(error))
    command.load()()


def _command() -> EntryPoint:
    found = entry_points(group="console_scripts", name="fastapi-crons")
    if not found:
        raise MissingDistributionError(
            "the command line is part of fastapi-crons-cli, which is not installed: pip install fastapi-crons-cli"
        )
    return next(iter(found))


if __name__ == "__main__":
    main()
