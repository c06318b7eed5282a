"""Models with seeded weights, whose gates are given the loads that a test asks for."""
