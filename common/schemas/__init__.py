"""What the JSON files of the commands hold: a JSON Schema for each, and the version that this tree writes and reads."""
