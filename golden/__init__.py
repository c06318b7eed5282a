"""The reference: float models, the integer model that defines the RTL, scenes and training."""
