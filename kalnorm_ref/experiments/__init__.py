"""Training runs from one description of their settings: one (train), several side by side (compare), a grid (sweep)."""
