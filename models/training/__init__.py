"""Training: shared weights (`sandwich`), normalisation of one subnet (`recalibrate`), early exits (`exits`)."""
