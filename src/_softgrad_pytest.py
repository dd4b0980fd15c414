"""Nothing: development installations made before 0.1 still name this as a plugin of pytest."""
