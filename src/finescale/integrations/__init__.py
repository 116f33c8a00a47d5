"""finescale in other people's tools."""
