"""The command line: one file per command, each parses, calls and prints."""

from ._main import main as main
