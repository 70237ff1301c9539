"""`python -m relab` is `lab`."""

from relab.cli.main import main

if __name__ == "__main__":
    main()
