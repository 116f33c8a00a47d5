"""The command line: one file per verb, which reads arguments, calls the room, prints."""
