"""`python -m mixdown`: the same as the command `mixdown`."""

from mixdown.cli import main

if __name__ == "__main__":
    main()
