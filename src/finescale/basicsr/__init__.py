"""Published option files of BasicSR, converted to evaluations and trainings."""
