"""What the documentation site takes from the code: the reference is written from the definitions themselves."""
