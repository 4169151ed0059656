"""Generated scenes with their true depth: a ray caster in NumPy, and what it draws."""
