"""Drawing of figures as SVG and PNG; nothing here knows a network."""
