"""The report of recordings of training: what each layer did, over time."""

from ._page import render as render
from ._page import write_html as write_html
