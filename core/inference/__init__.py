"""Classifying pictures with a trained network."""

from core.inference.classifier import Answer, classify

__all__ = ["Answer", "classify"]
