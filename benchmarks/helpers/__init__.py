"""What benchmarks share: media sets, encoder configurations, timing."""
