"""Programs to look at with the workbench."""
