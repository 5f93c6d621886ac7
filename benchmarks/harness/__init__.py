"""The parts of `benchmarks/compare.py`: worker processes, measuring, memory, reports."""
