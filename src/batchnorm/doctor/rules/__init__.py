"""One rule per file; see ``Rule``."""
