"""The screens: Runs, Graph, Timeline, Step, and the help page."""
