"""The command ``logstore``: one file a command. What a command does is in store and storage; here it is shown."""

from logstore.cli.main import main

__all__ = ["main"]
