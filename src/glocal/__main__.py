"""``python -m glocal`` is the command line."""

from glocal.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
