"""`tf.test`: the numeric gradient checker, under TensorFlow 1's names."""

from __future__ import annotations

from engine.autodiff.check import compute_gradient, compute_gradient_error

__all__ = ["compute_gradient", "compute_gradient_error"]
