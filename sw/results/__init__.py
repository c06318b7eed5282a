"""Results of a run: outcomes of frames, output maps beside the float model's, scores, and attention rollout."""
