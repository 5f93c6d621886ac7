"""The workbench: the command line, the headless debugger, and the terminal application."""
