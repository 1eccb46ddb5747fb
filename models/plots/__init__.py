"""SVG figures, style sheet and templates of the pages of reports and ablations."""
