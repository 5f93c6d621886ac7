"""Plans: what a session runs when nobody is stepping.

The interpreter (`engine.runtime.state` and its drivers) defines what a program means; a plan is the same program compiled, in
the order in which these modules are: `structure` finds the jumps behind Switch and Merge and makes the linear program (`ir`),
`names` says which values may share a place, and `python` writes the program as Python.  `cache` decides when
a signature is worth a plan, and remembers why some have none.

Where somebody watches, the program keeps a log (`record`).  `paths`, `deadness` and `ways` know which rows each way through a
frame stands for, `replay` follows the log along these ways, and `rows` makes the columns that observers get.
"""
