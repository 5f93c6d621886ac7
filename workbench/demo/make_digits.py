"""Makes `digits.npz` from scikit-learn's copy of the UCI digits: ``python -m workbench.demo.make_digits``."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def main() -> None:
    """Write `digits.npz` beside this file."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    path = Path(__file__).with_name("digits.npz")
    np.savez_compressed(path, images=digits.data.astype(np.uint8), labels=digits.target.astype(np.uint8))
    print(f"{path}: {len(digits.target)} digits, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
