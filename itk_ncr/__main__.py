"""``python -m itk_ncr`` is the command ``itk-ncr``."""

from itk_ncr.cli import main

if __name__ == "__main__":
    main()
