"""lapa_ray: from Atari pixels to a playable world model, on Ray. See README.md for the map of the rooms."""

__version__ = "0.1.0"
