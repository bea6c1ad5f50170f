"""Figures: each a function from a table to a matplotlib `Figure`, and `write_figures`, which draws them all."""

from dosimeter.figures.write import FigureFile, write_figures

__all__ = ["FigureFile", "write_figures"]
