"""``python -m logstore`` is the command ``logstore``."""

from logstore.cli import main

main()
