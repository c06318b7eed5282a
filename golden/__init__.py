"""What is right: float reference models, the integer model that defines the RTL, scenes and training."""
