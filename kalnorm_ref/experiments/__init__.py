"""Training runs on real images, alone (train) or side by side (compare), from one description of their settings."""
