"""The demonstration: a small network that learns to read handwritten digits (`digits.py`)."""
