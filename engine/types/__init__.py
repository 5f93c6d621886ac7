"""Values that everything else in the engine is made of, and that import nothing of it.

`dtypes` (what a tensor's elements are), `shape` (partial shapes and their merging and broadcasting), `device` (device specs),
`errors` (the error tree), `site` (the user's line that made a node) and `nest` (nested structures of values).
"""
