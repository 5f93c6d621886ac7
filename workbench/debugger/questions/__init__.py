"""Questions that a debugger answers about a step: each a function of the stepping that gives a `Reasoning`.

===================  ====================================================================================
`waiting.why_not`    what keeps a node from executing
`wanted.why`         which fetch or target needs a node; `wanted.needs`: who still needs a value
`dead.why_dead`      the way of a dead token
`here.why_here`      why a node is on its device
`writers.who_wrote`  the changes of a variable, and who has read it since
`origin.origin`      where a NaN or an infinity came from; `origin.backward_slice`: all that led to an execution
`differences.diff`   how two values of a tensor differ
===================  ====================================================================================

The commands that ask them are in `workbench.debugger.asking`.
"""
