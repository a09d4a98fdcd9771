"""How good a network is: logits of a whole set, the report made from them, calibration."""

from core.evaluation.calibration import expected_calibration_error, fit_temperature, reliability_table
from core.evaluation.footprint import footprint, images_per_second
from core.evaluation.novelty import (
    bank_size,
    distances,
    energy,
    familiarity,
    fit_novelty,
    logits_and_features,
    make_bank,
    most_similar,
)
from core.evaluation.predict import Interrupted, predict
from core.evaluation.report import Report, evaluate_checkpoint, make_report, prediction_tensors
from core.evaluation.significance import mcnemar, wilson_interval

__all__ = [
    "Interrupted",
    "Report",
    "bank_size",
    "distances",
    "energy",
    "evaluate_checkpoint",
    "expected_calibration_error",
    "familiarity",
    "fit_novelty",
    "fit_temperature",
    "footprint",
    "images_per_second",
    "logits_and_features",
    "make_bank",
    "make_report",
    "mcnemar",
    "most_similar",
    "predict",
    "prediction_tensors",
    "reliability_table",
    "wilson_interval",
]
