"""Models with seeded weights, whose gates spread tokens over experts as a test asks."""
