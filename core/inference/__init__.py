"""Classifying pictures with a trained network, and showing why."""

from core.inference.classifier import Answer, classify
from core.inference.grad_cam import grad_cam, overlay

__all__ = ["Answer", "classify", "grad_cam", "overlay"]
