"""`python -m alignlab`, and the entry for `accelerate launch -m alignlab`."""

from alignlab.cli import main

if __name__ == "__main__":
    main()
