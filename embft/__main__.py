"""`python -m embft` is `embft`."""

from embft.cli import main

if __name__ == "__main__":
    main()
