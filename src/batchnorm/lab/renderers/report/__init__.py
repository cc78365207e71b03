"""The lab's report: one HTML file for all experiments, and a picture of every chart."""

from ._write import report as report
