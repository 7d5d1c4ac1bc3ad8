"""Everything that needs torch: stacked networks, one objective, training, curvature, estimators, protocols."""
