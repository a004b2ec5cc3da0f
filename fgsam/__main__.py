"""``python -m fgsam`` is the command line."""

from fgsam.cli import main

if __name__ == "__main__":
    main()
