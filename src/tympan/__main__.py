"""Run the command line with ``python -m tympan``."""

from tympan.cli import main

if __name__ == "__main__":
    main()
