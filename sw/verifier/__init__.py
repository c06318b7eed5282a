"""The verifier: what each tensor must be, what the machine wrote, and the first difference."""
