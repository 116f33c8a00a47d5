"""The promise battery: what every network of every family keeps, as tests for pytest.

``pytest --pyargs finescale.testing`` asks it of all families, those of installed packages included; ``-k NAME`` selects
those of one variant or family, and ``-p MODULE`` first imports a module that calls `finescale.register`.
"""
