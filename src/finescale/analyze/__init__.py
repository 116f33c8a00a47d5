"""What networks take, what they look at, and figures of both."""
