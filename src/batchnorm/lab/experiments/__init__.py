"""Experiments: each a configuration, the trials it needs, and the result made from them."""
