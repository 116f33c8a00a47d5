"""Tensors in a file, whatever network they belong to."""
