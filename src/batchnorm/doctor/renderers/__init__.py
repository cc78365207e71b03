"""A diagnosis as text: for people, for programs, for code scanning, for GitHub's log."""

from .github import render as render_github
from .json import render as render_json
from .sarif import render as render_sarif
from .terminal import render as render_terminal

__all__ = ["render_github", "render_json", "render_sarif", "render_terminal"]
