"""Figures as SVG and PNG; no network is known here."""
