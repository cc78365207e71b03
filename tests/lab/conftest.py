"""A real browser. Needs Chromium and the extra ``browser``; skipped without, an error with
REQUIRE_BROWSER=1.
"""

import os
import shutil

import pytest


def missing(what):
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(f"REQUIRE_BROWSER=1, but there is no {what}")
    pytest.skip(f"needs {what}: see CONTRIBUTING.md")


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        missing("Chromium")
    with sync_playwright() as found:
        running = found.chromium.launch(executable_path=program)
        yield running
        running.close()
