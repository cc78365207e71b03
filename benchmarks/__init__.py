"""Benchmarks of the layers against torch: ``python -m benchmarks`` (``make bench``)."""
