"""`python -m fastapi_crons.cli`: hands over to the command line, which is a distribution of its own."""

import sys
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution

from fastapi_crons.errors import MissingDistributionError


def main() -> None:
    """Run the command line, or say in one sentence which distribution brings it."""
    try:
        command = _command()
    except MissingDistributionError as error:
        sys.exit(str(error))
    command.load()()


def _command() -> EntryPoint:
    try:
        scripts = distribution("fastapi-crons-cli").entry_points.select(group="console_scripts", name="fastapi-crons")
        return next(iter(scripts))
    except (PackageNotFoundError, StopIteration):
        raise MissingDistributionError(
            "the command line is part of fastapi-crons-cli, which is not installed: pip install fastapi-crons-cli"
        ) from None


if __name__ == "__main__":
    main()
