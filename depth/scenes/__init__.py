"""Generated scenes with their true depth: a ray caster in NumPy, and the scenes that it renders."""
