"""Stands in for torchvision, of which spandrel imports three names that no network in these tests uses."""
