"""``python -m qinterp``."""

from qinterp.cli import main

if __name__ == "__main__":
    main()
