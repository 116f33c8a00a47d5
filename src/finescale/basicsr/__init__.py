"""Published option files of BasicSR: their blocks, as tests, as trainings."""
