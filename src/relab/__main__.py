"""Run the command `lab` as `python -m relab`."""

from relab.cli.main import main

if __name__ == "__main__":
    main()
