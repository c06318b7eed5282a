"""The verifier: it compares each tensor that the machine wrote with the golden model and names the first difference."""
