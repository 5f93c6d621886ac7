"""Machine code: what plans run instead of Python, made while the program runs.

Nothing in here knows graphs or nodes: addresses, buffers, shapes and NumPy dtypes alone.  llvmlite is imported when the first
function is compiled; where it is missing, or where a self-test fails, `engine.native.compiler.available` says so and plans
stay with generated Python.
"""
