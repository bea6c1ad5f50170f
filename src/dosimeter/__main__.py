"""`python -m dosimeter`."""

from dosimeter.cli import main

if __name__ == "__main__":
    main()
