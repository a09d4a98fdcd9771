"""Classifying pictures with a trained network, and showing why."""

from core.inference.classifier import Answer, classify, classify_views, view
from core.inference.distort import Distortion, distort
from core.inference.grad_cam import grad_cam, overlay

__all__ = [
    "Answer",
    "Distortion",
    "classify",
    "classify_views",
    "distort",
    "grad_cam",
    "overlay",
    "view",
]
