"""The stages of the pipeline that train, score and report."""
