"""Agreement of predicted with actual changes, its intervals and its bands: arrays in, numbers out."""
