"""The same models as plotly figures.  plotly is imported when a figure is made, not before."""
