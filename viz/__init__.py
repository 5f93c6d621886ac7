"""Pure functions from a graph or a trace to a view model, and from a view model to a terminal drawing or a figure."""
