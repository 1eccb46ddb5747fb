"""What the pages of reports and ablations share: SVG figures, the style sheet and the templates."""
