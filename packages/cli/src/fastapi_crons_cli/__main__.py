"""`python -m fastapi_crons_cli`: the same as `fastapi-crons`."""

from fastapi_crons_cli.start import main

if __name__ == "__main__":
    main()
