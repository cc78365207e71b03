"""One result, many renderers: terminal, JSON, web page, picture."""
