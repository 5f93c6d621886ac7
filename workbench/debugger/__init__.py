"""The headless debugger: what the terminal application, the command line, notebooks and tests drive."""
