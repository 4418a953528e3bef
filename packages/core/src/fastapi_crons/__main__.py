"""`python -m fastapi_crons`: hands over to the command line, which is a distribution of its own."""

from fastapi_crons.cli import main

if __name__ == "__main__":
    main()
